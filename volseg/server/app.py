"""The application: its routes, its errors, and what lives as long as it does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from volseg import __version__
from volseg.atomic import writing_to
from volseg.errors import InputError, OutputError, UnknownNameError, VolsegError
from volseg.server import monai_label, monai_label_data, page, v1
from volseg.server.catalogue import Catalogue
from volseg.server.datastore import NotThereError
from volseg.server.faults import is_of_the_disk
from volseg.server.guard import Guard
from volseg.server.own_folder import claim_folder
from volseg.server.service import FullError, Service
from volseg.server.settings import ServerSettings

_log = logging.getLogger(__name__)
_ABOUT = """Segments medical images with MONAI bundles. Research software, not a medical device.

Submit an image with `POST /v1/jobs`, follow it with `GET /v1/jobs/{id}/events`, and fetch the label
map with `GET /v1/jobs/{id}/result`. Every refusal is one sentence, `{"detail": "..."}`.
"""


def create_app(settings: ServerSettings, devices: list[str]) -> FastAPI:
    """Return the application.

    Args:
        settings: of the server.
        devices: names of the devices that compute.

    Raises:
        InputError: a bundle cannot be used, or the folder holds something else.
        OutputError: the folder or that of the datastore cannot be written.
    """
    claim_folder(settings.folder)
    # What is raised once the application starts is no sentence any more.
    with writing_to(settings.datastore_folder):
        settings.datastore_folder.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(settings.bundles, settings.folder / "trained")

    @contextlib.asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(settings, catalogue, devices)
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="volseg",
        version=__version__,
        description=_ABOUT,
        license_info={"name": "Apache-2.0"},
        lifespan=alive,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization"],
        )
    app.add_exception_handler(405, _not_allowed)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(VolsegError, _refused)
    app.add_exception_handler(OSError, _not_written)
    for part in (v1, monai_label, monai_label_data, page):
        app.include_router(part.router)
    app.include_router(monai_label.auth)
    return app


async def _not_allowed(request: Request, error: Exception) -> Response:
    """Name every method of a path; the router names those of the first route it finds there."""
    assert isinstance(error, HTTPException)
    methods = {
        method.upper()
        for path, operations in request.app.openapi()["paths"].items()
        if compile_path(path)[0].match(request.url.path)
        for method in operations
    }
    allow = ", ".join(sorted(methods)) or (error.headers or {}).get("Allow", "")
    return JSONResponse({"detail": f"this path takes {allow}."}, 405, headers={"Allow": allow})


async def _not_valid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{where}: {first['msg']}."}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, FullError):
        return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "10"})
    if isinstance(error, UnknownNameError | NotThereError):
        return JSONResponse({"detail": str(error)}, 404)
    if isinstance(error, InputError):
        return JSONResponse({"detail": str(error)}, 422)
    if isinstance(error, OutputError):
        return _no_place(error.__cause__)
    return JSONResponse({"detail": str(error)}, 500)


async def _not_written(_: Request, error: Exception) -> Response:
    """Tell a full disk from a fault, which it raises again."""
    if not is_of_the_disk(error):
        raise error
    return _no_place(error)


def _no_place(error: BaseException | None) -> Response:
    # The error names a path, and that may name a patient.
    reason = getattr(error, "strerror", None)
    _log.error("what was sent could not be written: %s", reason or "no place for it")
    return JSONResponse({"detail": "the server cannot keep it: its disk may be full."}, 507)
