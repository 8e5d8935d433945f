"""The protocol of MONAI Label: images and labels that people work on, and training on them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from volseg.errors import InputError, UnknownNameError
from volseg.io import image_name
from volseg.server.access import require_token
from volseg.server.datastore import FINAL, read_info
from volseg.server.models import Problem
from volseg.server.monai_label import STRATEGIES, datastore_status
from volseg.server.receiving import Form, received_form, receiving_form
from volseg.server.training import Busy, TrainingTask
from volseg.server.v1 import BINARY, REFUSALS, UNKNOWN, UPLOADING, TheService

_A_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file", "content": {BINARY: {}}},
    **UNKNOWN,
}
_BINARY = {"type": "string", "format": "binary"}
_PARAMS = {"type": "string", "description": "JSON; kept with the file"}
_IMAGE_FORM = receiving_form({"file": _BINARY, "params": _PARAMS}, required=["file"])
_LABEL_FORM = receiving_form({"label": _BINARY, "params": _PARAMS}, required=["label"])

router = APIRouter(tags=["MONAI Label"], dependencies=[Depends(require_token)], responses=REFUSALS)


class Kept(BaseModel):
    """What was uploaded to the datastore."""

    image: str
    label: str | None = None


@router.get("/datastore/")
async def datastore(
    service: TheService, output: Literal["stats", "all", "train"] = "stats"
) -> dict[str, Any] | list[dict[str, str]]:
    """Tell what the datastore has: how much, everything, or what can be trained on."""
    if output == "stats":
        return datastore_status(service)
    if output == "train":
        finished = service.datastore.finished().values()
        return [
            {"image": image.name, "label": f"{FINAL}/{label.name}"} for image, label in finished
        ]
    labels = service.datastore.labels()
    return {
        "name": "datastore",
        "description": "",
        "images_dir": ".",
        "labels_dir": "labels",
        "objects": {
            name: {
                "image": _described(image),
                "labels": {
                    tag: _described(found[name]) for tag, found in labels.items() if name in found
                },
            }
            for name, image in service.datastore.images().items()
        },
    }


@router.put("/datastore/", responses=UPLOADING, openapi_extra=_IMAGE_FORM, deprecated=True)
@router.put("/datastore/image", responses=UPLOADING, openapi_extra=_IMAGE_FORM)
async def add_image(image: str, request: Request, service: TheService) -> Kept:
    """Upload an image under a name."""
    async with received_form(request, service) as form:
        received = _only_file(form, "file")
        await asyncio.to_thread(service.datastore.add_image, image, received, _params(form))
    return Kept(image=image)


@router.get("/datastore/image", response_class=FileResponse, responses=_A_FILE)
@router.head("/datastore/image", response_class=FileResponse, responses=_A_FILE)
async def image(image: str, service: TheService) -> FileResponse:
    """Download an image."""
    path = service.datastore.image(image)
    return FileResponse(path, media_type=BINARY, filename=path.name)


@router.delete("/datastore/image", responses=UNKNOWN)
async def remove_image(id: str, service: TheService) -> dict[str, str]:
    """Remove an image and its labels."""
    service.datastore.remove_image(id)
    return {}


@router.get("/datastore/image/info", responses=UNKNOWN)
async def image_info(image: str, service: TheService) -> dict[str, Any]:
    """Tell what was said about an image."""
    return read_info(service.datastore.image(image))


@router.put("/datastore/label", responses={**UPLOADING, **UNKNOWN}, openapi_extra=_LABEL_FORM)
async def add_label(image: str, request: Request, service: TheService, tag: str = FINAL) -> Kept:
    """Upload a label of an image; one of the same tag is replaced."""
    async with received_form(request, service) as form:
        received = _only_file(form, "label")
        keep = service.datastore.add_label
        await asyncio.to_thread(keep, image, tag or FINAL, received, _params(form))
    return Kept(image=image, label=image)


@router.get("/datastore/label", response_class=FileResponse, responses=_A_FILE)
@router.head("/datastore/label", response_class=FileResponse, responses=_A_FILE)
async def label(label: str, service: TheService, tag: str = FINAL) -> FileResponse:
    """Download a label."""
    path = service.datastore.label(label, tag)
    return FileResponse(path, media_type=BINARY, filename=path.name)


@router.delete("/datastore/label", responses=UNKNOWN)
async def remove_label(id: str, service: TheService, tag: str = FINAL) -> dict[str, str]:
    """Remove a label."""
    service.datastore.remove_label(id, tag)
    return {}


@router.get("/datastore/label/info", responses=UNKNOWN)
async def label_info(label: str, service: TheService, tag: str = FINAL) -> dict[str, Any]:
    """Tell what was said about a label, such as what its values are called."""
    return read_info(service.datastore.label(label, tag))


@router.post("/activelearning/{strategy}", responses=UNKNOWN)
async def next_sample(
    strategy: str, service: TheService, params: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """Choose the image to be labelled next; `{}` if all are."""
    del params
    if strategy not in STRATEGIES:
        raise UnknownNameError("strategy", strategy, STRATEGIES)
    finished = service.datastore.finished()
    waiting = {n: path for n, path in service.datastore.images().items() if n not in finished}
    if not waiting:
        return {}
    name = next(iter(waiting)) if strategy == "first" else secrets.choice(list(waiting))
    path = waiting[name]
    return {
        "id": name,
        "name": path.name,
        # A client on this machine reads the file itself; others are not told where it lies.
        "path": str(path.resolve()) if service.settings.is_local else "",
        "ts": int(path.stat().st_mtime),
        "checksum": f"SHA256:{await asyncio.to_thread(_sha256, path)}",
        **read_info(path),
    }


@router.post(
    "/train/{model}",
    responses={429: {"model": Problem, "description": "another run is under way"}, **UNKNOWN},
)
async def start_training(
    model: str,
    service: TheService,
    params: Annotated[dict[str, Any] | None, Body()] = None,
) -> TrainingTask:
    """Train a bundle on the finished labels; the result is one more bundle of this server.

    `epochs` in the parameters is how long; 0 or nothing is as long as the bundle says.
    """
    epochs = (params or {}).get("epochs") or None
    if epochs is not None and not (type(epochs) is int and 0 < epochs < 100_000):
        raise InputError(f"epochs is {str(epochs)[:32]!r}; expected a whole number from 1 on.")
    bundle = service.catalogue.find(model)
    request = {"model": model, "epochs": epochs}
    try:
        return await service.trainer.start(bundle, epochs, request)
    except Busy:
        raise HTTPException(429, "another run of training is under way: stop it first.") from None


@router.get("/train/", responses=UNKNOWN)
async def training(
    service: TheService, check_if_running: Annotated[bool, Query()] = False
) -> TrainingTask:
    """Tell how the training goes; 404 if there was none, or, if asked, none is under way."""
    task = service.trainer.task
    if task is None or (check_if_running and task.has_ended):
        raise HTTPException(404, "no training is under way.")
    return task


@router.delete("/train/", responses=UNKNOWN)
async def stop_training(service: TheService) -> TrainingTask:
    """Stop the training."""
    if service.trainer.task is None:
        raise HTTPException(404, "no training is under way.")
    await service.trainer.stop()
    return service.trainer.task


def _only_file(form: Form, name: str) -> Path:
    files = [path for part, path in form.files if part == name]
    if len(files) != 1:
        raise InputError(f"{len(files)} files were sent as {name!r}; expected one.")
    return files[0]


def _params(form: Form) -> dict[str, Any]:
    try:
        params = json.loads(form.fields.get("params") or "{}")
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise InputError("params cannot be read: expected a JSON object.")
    return params


def _described(path: Path) -> dict[str, Any]:
    return {"ext": path.name[len(image_name(path)) :], "info": read_info(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
