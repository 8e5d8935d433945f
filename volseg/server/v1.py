"""``/v1``: jobs that are submitted, watched, cancelled and fetched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import ValidationError

from volseg.bundle import Bundle
from volseg.errors import InputError
from volseg.pacs import parse_address
from volseg.segmenter import result_files
from volseg.server.access import require_token
from volseg.server.catalogue import describe
from volseg.server.inputs import place_inputs
from volseg.server.jobs import RECORD, Job, new_job
from volseg.server.models import (
    BundleDescription,
    Health,
    JobOptions,
    JobStatus,
    Problem,
    ResultFormat,
)
from volseg.server.receiving import Form, received_form, receiving_form
from volseg.server.service import Service

BINARY = "application/octet-stream"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the request cannot be read"},
    401: {"model": Problem, "description": "the token is missing or wrong"},
    403: {"model": Problem, "description": "not allowed from there"},
    408: {"model": Problem, "description": "the client fell silent"},
    413: {"model": Problem, "description": "larger than the server takes"},
    422: {"model": Problem, "description": "something that was sent cannot be used"},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "there is no such thing"}
}
_NOT_DONE: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "the job is not done"}
}
UPLOADING: dict[int | str, dict[str, Any]] = {
    415: {"model": Problem, "description": "not a form"},
    503: {"model": Problem, "description": "the server is full; try again later"},
    507: {"model": Problem, "description": "the server could not keep it"},
}
_FORM = receiving_form(
    {
        "bundle": {"type": "string", "description": "name of a bundle"},
        "options": JobOptions.model_json_schema(),
        "image": {
            "type": "string",
            "format": "binary",
            "description": "NIfTI, NRRD, MetaImage, PNG, TIFF, JPEG, a multi-frame DICOM file, or "
            "a zip of a DICOM series; of a bundle with several channels instead one part "
            "`channel:NAME` for each",
        },
        "reference": {
            "type": "string",
            "description": "instead of an image: address of a DICOM series, such as "
            "dicomwebs://host/dicom-web?series=UID, on a server that this one may ask",
        },
    },
    required=["bundle"],
)

router = APIRouter(prefix="/v1", dependencies=[Depends(require_token)], responses=REFUSALS)


def service_of(request: Request) -> Service:
    """Return the service behind the server."""
    service: Service = request.app.state.service
    return service


def job_of(id: str, request: Request) -> Job:
    """Return the job that a path names.

    Raises:
        HTTPException: 404.
    """
    job = service_of(request).find(id)
    if job is None:
        raise HTTPException(404, "there is no such job: it may have expired.")
    return job


TheService = Annotated[Service, Depends(service_of)]
TheJob = Annotated[Job, Depends(job_of)]


@router.get("/health", tags=["server"])
async def health(service: TheService) -> Health:
    """Tell that the server is there, and how busy it is."""
    return service.health()


@router.get("/bundles", tags=["server"])
async def bundles(service: TheService) -> list[BundleDescription]:
    """List the bundles that can segment here, with their channels, labels, codes and colours."""
    return [describe(bundle) for bundle in service.catalogue.bundles.values()]


@router.post(
    "/jobs", status_code=202, tags=["jobs"], responses={**UPLOADING, **UNKNOWN}, openapi_extra=_FORM
)
async def submit(request: Request, service: TheService) -> JobStatus:
    """Submit an image, or the address of one, to be segmented."""
    async with received_form(request, service) as form:
        job = await asyncio.to_thread(_job_of_form, form, service)
        await service.submit(job, form.folder)
    return service.status(job)


@router.get("/jobs", tags=["jobs"])
async def jobs(service: TheService) -> list[JobStatus]:
    """List the jobs that are there, the oldest first."""
    return service.jobs()


@router.get("/jobs/{id}", tags=["jobs"], responses=UNKNOWN)
async def job(job: TheJob, service: TheService) -> JobStatus:
    """Tell how far a job is."""
    return service.status(job)


@router.get(
    "/jobs/{id}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "JobStatus as JSON, each time"},
        **UNKNOWN,
    },
)
async def events(job: TheJob, service: TheService) -> StreamingResponse:
    """Stream the job as server-sent events: at once, after every change, and at its end."""

    async def stream() -> AsyncIterator[str]:
        async for _ in service.changes(job):
            yield f"data: {service.status(job).model_dump_json()}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@router.delete("/jobs/{id}", tags=["jobs"], responses=UNKNOWN)
async def cancel(job: TheJob, service: TheService) -> JobStatus:
    """Cancel a job; one that has ended is removed with its result."""
    if job.has_ended:
        await service.forget(job)
    else:
        await service.cancel(job)
    return service.status(job)


@router.get(
    "/jobs/{id}/result",
    tags=["jobs"],
    response_class=FileResponse,
    responses={
        200: {
            "content": {
                "application/dicom": {},
                "application/gzip": {},
                "image/png": {},
            },
            "description": "the file",
        },
        **UNKNOWN,
        **_NOT_DONE,
    },
)
async def result(
    job: TheJob,
    service: TheService,
    format: Annotated[ResultFormat | None, Query(description="one that was asked for")] = None,
) -> FileResponse:
    """Return a result of a job that is done: its first format, or the one that is named."""
    path = result_path(job, service, format)
    kinds = {".dcm": "application/dicom", ".gz": "application/gzip", ".png": "image/png"}
    return FileResponse(path, media_type=kinds[path.suffix], filename=path.name)


@router.get("/jobs/{id}/record", tags=["jobs"], responses={**UNKNOWN, **_NOT_DONE})
async def record(job: TheJob, service: TheService) -> dict[str, Any]:
    """Return the record of a job that is done: statistics, quality, how it was made."""
    path = result_path(job, service).with_name(RECORD)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def result_path(job: Job, service: Service, format: ResultFormat | None = None) -> Path:
    """Return the file of a result.

    Raises:
        HTTPException: 404 the format was not asked for, 409 the job is not done.
    """
    if job.state != "done":
        why = f": {job.error}" if job.error else "."
        raise HTTPException(409, f"the job is {job.state}{why}")
    wanted = format or job.options.formats[0]
    if wanted not in job.files:
        made = ", ".join(job.files)
        raise HTTPException(404, f"the job made {made} and no {wanted}: submit it again for that.")
    return service.folder.path(job) / "results" / job.files[wanted]


def _job_of_form(form: Form, service: Service) -> Job:
    """Check a form and put its files in place; takes as long as unpacking does."""
    bundle = service.catalogue.find(form.fields.get("bundle", ""))
    options = _options(form.fields.get("options", "{}"), bundle)
    reference = form.fields.get("reference")
    if reference is None:
        limits = service.settings.limits
        inputs = place_inputs(form.files, form.folder, bundle.channels, limits)
        return new_job(bundle.name, options, inputs=inputs)
    if form.files:
        raise InputError("both a reference and a file were sent: send one of them.")
    _require_allowed(reference, service.settings.pacs)
    return new_job(bundle.name, options, reference=reference)


def _options(text: str, bundle: Bundle) -> JobOptions:
    try:
        options = JobOptions.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        raise InputError(f"the options cannot be used: {where}: {first['msg']}.") from error
    result_files(Path(), "image", options.formats, spatial_dims=bundle.spatial_dims)
    return options


def _require_allowed(reference: str, allowed: tuple[str, ...]) -> None:
    """Refuse to ask any server but those that were named when this one was started."""
    address = parse_address(reference)
    if str(address) not in {str(parse_address(text)) for text in allowed}:
        raise HTTPException(
            403, f"this server may not ask {address}: start it with --allow-pacs for that."
        )
    if not address.query.has_conditions:
        raise InputError(f"{address} names a server and no series: add ?series=UID.")
