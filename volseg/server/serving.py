"""Running the application with uvicorn, one server to a folder."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from filelock import FileLock, Timeout

from volseg.errors import InputError
from volseg.server.app import create_app
from volseg.server.impatient import ImpatientProtocol
from volseg.server.own_folder import claim_folder
from volseg.server.settings import ServerSettings

_SECONDS_TO_END = 5
_MOST_CONNECTIONS = 512


def serve(settings: ServerSettings, ready: Callable[[str], None]) -> None:
    """Serve until the process is told to end.

    Args:
        settings: of the server.
        ready: called with the address once requests are answered.

    Raises:
        InputError: the folder is another server's or none of a server, the address cannot be
            listened at, or a bundle or a device is not there.
        OutputError: the folder or that of the datastore cannot be written.
    """
    claim_folder(settings.folder)  # before anything is laid into it
    with _alone_in(settings.folder), _listening(settings) as listener:
        app = create_app(settings, _devices(settings.devices))
        config = configuration(app, settings)
        scheme = "http" if settings.certificate is None else "https"
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        server = _Server(config, lambda: ready(f"{scheme}://{host}:{port}"))
        server.run(sockets=[listener])


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other servers out of a folder while the block runs."""
    lock = FileLock(folder / "server.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another server uses {folder}: give this one a --folder of its own."
        ) from None
    try:
        yield
    finally:
        lock.release()


def configuration(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_config=None,
        access_log=False,  # the application logs without what a client has sent
        server_header=False,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        timeout_keep_alive=max(1, round(settings.limits.silent_seconds)),
        timeout_graceful_shutdown=_SECONDS_TO_END,
        limit_concurrency=_MOST_CONNECTIONS,
    )


class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _listening(settings: ServerSettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server((str(address[0]), settings.port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen at {settings.host}, port {settings.port} ({error.strerror}): choose "
            "another with --port."
        ) from error


def _devices(names: tuple[str, ...]) -> list[str]:
    """Return the devices by name; ``auto`` is every GPU, or the processor."""
    import torch  # noqa: PLC0415 - seconds, after the address was found to be free

    from volseg.segmenter import choose_device  # noqa: PLC0415

    found: list[str] = []
    for name in names:
        if name == "auto" and torch.cuda.is_available():
            found.extend(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        else:
            found.append(str(choose_device(name)))
    return list(dict.fromkeys(found))
