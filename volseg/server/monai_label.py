"""The protocol of MONAI Label: what its plugin of 3D Slicer asks to segment.

The calls, their answers and their slashes are those that the plugin's client uses (MONAI Label
0.8.5); refusals are better: a status that fits, and a sentence.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from volseg import __version__
from volseg.bundle import Bundle
from volseg.errors import InputError
from volseg.server.access import is_token, require_token
from volseg.server.contiguous import contiguous_labels
from volseg.server.inputs import place_inputs
from volseg.server.jobs import Job, new_job
from volseg.server.models import JobOptions, Problem
from volseg.server.multipart import form_response
from volseg.server.receiving import received_form, receiving_form
from volseg.server.sessions import Session
from volseg.server.v1 import BINARY, REFUSALS, UNKNOWN, UPLOADING, TheService, result_path

STRATEGIES = {
    "first": "the first image, by name, without a finished label",
    "random": "any image without a finished label",
}
_INFER_FORM: dict[str, Any] = receiving_form(
    {
        "params": {"type": "string", "description": "JSON; not used"},
        "file": {"type": "string", "format": "binary", "description": "the image itself"},
        "label": {"type": "string", "format": "binary", "description": "not used"},
    }
)
_FILES_FORM: dict[str, Any] = receiving_form(
    {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "an image, or the DICOM files of a series",
        }
    }
)

auth = APIRouter(prefix="/auth", tags=["MONAI Label"], responses=REFUSALS)
router = APIRouter(tags=["MONAI Label"], dependencies=[Depends(require_token)], responses=REFUSALS)


class AuthEnabled(BaseModel):
    """Whether the server needs its token."""

    enabled: bool


class Token(BaseModel):
    """What to send as `Authorization`."""

    access_token: str | None
    token_type: str | None


class NewSession(BaseModel):
    """A session that was made."""

    session_id: str
    session_info: Session


@auth.get("/")
async def auth_enabled(service: TheService) -> AuthEnabled:
    """Tell whether the server needs its token."""
    return AuthEnabled(enabled=service.settings.token is not None)


@auth.post("/token")
async def auth_token(
    service: TheService,
    username: Annotated[str, Form(description="any")],
    password: Annotated[str, Form(description="the token of the server")],
    grant_type: Annotated[Literal["password"], Form()] = "password",
) -> Token:
    """Sign in: the password is the server's token, under any name."""
    del username, grant_type
    if service.settings.token is None:
        return Token(access_token=None, token_type=None)
    if not is_token(password, service.settings):
        raise HTTPException(401, "the password is not the token of this server.")
    return Token(access_token=password, token_type="bearer")  # noqa: S106 - the kind of it


@auth.get("/token/valid", dependencies=[Depends(require_token)])
async def auth_valid() -> dict[str, bool]:
    """Tell whether the token that was sent is the server's."""
    return {"valid": True}


@router.get("/info/")
async def info(service: TheService) -> dict[str, Any]:
    """Tell what there is: models, trainers, strategies, and how far the labelling is."""
    bundles = service.catalogue.bundles
    task = service.trainer.task
    return {
        "name": "volseg",
        "description": "Segmentation with MONAI bundles",
        "version": __version__,
        "labels": list(dict.fromkeys(name for one in bundles.values() for name in one.labels)),
        "models": {name: _model(bundle) for name, bundle in bundles.items()},
        "trainers": {
            name: {"description": f"trains {name} anew", "config": {"epochs": 0}}
            for name, bundle in bundles.items()
            if (bundle.folder / "configs" / "train.yaml").is_file()
        },
        "strategies": {
            name: {"description": text, "config": {}} for name, text in STRATEGIES.items()
        },
        "scoring": {},
        "train_stats": {task.request["model"]: service.trainer.progress} if task else {},
        "datastore": datastore_status(service),
    }


@router.put("/session/", responses={**UPLOADING, **UNKNOWN}, openapi_extra=_FILES_FORM)
async def create_session(
    request: Request, service: TheService, expiry: Annotated[int, Query(ge=0)] = 0
) -> NewSession:
    """Upload an image, or the DICOM files of a series, to be segmented several times."""
    async with received_form(request, service) as form:
        files = [path for _, path in form.files]
        made = await service.sessions.create(files, form.folder, expiry)
    return NewSession(session_id=made[0], session_info=made[1])


@router.get("/session/{session_id}", responses=UNKNOWN)
async def session(session_id: str, service: TheService) -> Session:
    """Tell what a session is."""
    return service.sessions.find(session_id)


@router.delete("/session/{session_id}", responses=UNKNOWN)
async def remove_session(session_id: str, service: TheService) -> Session:
    """Remove a session and its image."""
    return await service.sessions.remove(session_id)


@router.post(
    "/infer/{model}",
    response_class=Response,
    responses={
        200: {
            "description": "a form with `params`, JSON, and `image`, the label map",
            "content": {
                "multipart/form-data": {},
                "application/json": {},
                BINARY: {},
            },
        },
        409: {"model": Problem, "description": "it could not be segmented"},
        **UPLOADING,
        **UNKNOWN,
    },
    openapi_extra=_INFER_FORM,
)
async def infer(
    model: str,
    request: Request,
    service: TheService,
    *,
    image: Annotated[str, Query(description="of the datastore")] = "",
    session_id: str = "",
    output: Literal["all", "image", "json", "dicom_seg"] = "all",
) -> Response:
    """Segment an image that is sent along, of a session, or of the datastore; waits for it.

    The values of the label map are 1 to N, in the order of `label_names`.
    """
    bundle = service.catalogue.find(model)
    formats = ["nifti", "dicom-seg"] if output == "dicom_seg" else ["nifti"]
    options = JobOptions.model_validate({"formats": formats})
    async with received_form(request, service) as form:
        folder, limits = form.folder, service.settings.limits
        files = [("image", path) for name, path in form.files if name == "file"]
        if files:
            inputs = await asyncio.to_thread(place_inputs, files, folder, bundle.channels, limits)
        else:
            source = _source(service, session_id, image)
            inputs = {"image": await asyncio.to_thread(_linked, source, folder)}
        job = new_job(bundle.name, options, inputs=inputs, contiguous=True)
        await service.submit(job, folder)
    async for _ in service.changes(job):
        if not job.has_ended and await request.is_disconnected():
            await service.cancel(job)
    return _answer(job, service, bundle, output)


def _answer(job: Job, service: TheService, bundle: Bundle, output: str) -> Response:
    path = result_path(job, service, "dicom-seg" if output == "dicom_seg" else "nifti")
    params = {
        "label_names": contiguous_labels(bundle.labels),
        "latencies": {"total": round((job.ended or 0) - (job.started or 0), 3)},
    }
    after = BackgroundTask(service.forget, job)
    if output == "json":
        return JSONResponse(params, background=after)
    if output != "all":
        return FileResponse(path, media_type=BINARY, filename=path.name, background=after)
    return form_response(params, path.name, path, after)


def _source(service: TheService, session_id: str, image: str) -> Path:
    if session_id:
        return service.sessions.use(session_id)
    if image:
        return service.datastore.image(image)
    raise InputError("no image: send a file, or name a session_id or an image of the datastore.")


def _linked(source: Path, folder: Path) -> str:
    """Give a job an image of its own without copying it, and return its path in the job."""
    target = folder / "input" / source.name
    target.parent.mkdir()
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        target = target.with_name(f"image{''.join(source.suffixes[-2:])}")
        _link(str(source), str(target))
    return target.relative_to(folder).as_posix()


def _link(source: str, target: str) -> str:
    try:
        # Of a symbolic link it would make another, which leads nowhere from there.
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    return target


def _model(bundle: Bundle) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": contiguous_labels(bundle.labels),
        "dimension": bundle.spatial_dims,
        "description": str(bundle.metadata.get("description", "")),
        "version": str(bundle.metadata.get("version", "")),
        "config": {},
    }


def datastore_status(service: TheService) -> dict[str, Any]:
    """Return how much of the datastore is labelled."""
    labels = service.datastore.labels()
    return {
        "total": len(service.datastore.images()),
        "completed": len(service.datastore.finished()),
        "label_tags": {tag: len(found) for tag, found in labels.items()},
        "train": [],
    }
