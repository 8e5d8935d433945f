"""What a server is told when it starts: what it serves, to whom, and how much it takes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from volseg.errors import InputError
from volseg.pacs import Connection, parse_address

_GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """How much a server takes; what is beyond is refused with a sentence.

    Attributes:
        upload_bytes: of one request.
        unpacked_bytes: of what a zip or a compressed image becomes.
        files: in one request, or in one zip.
        uploads: received at the same time.
        waiting_jobs: in the queue.
        disk_bytes: of all jobs and sessions; the oldest jobs that have ended make room.
        keep_seconds: how long a job is kept after its end, and a session after its last use.
        silent_seconds: how long a client may be silent in the middle of a request.
    """

    upload_bytes: int = 4 * _GIB
    unpacked_bytes: int = 16 * _GIB
    files: int = 20_000
    uploads: int = 128
    waiting_jobs: int = 256
    disk_bytes: int = 64 * _GIB
    keep_seconds: float = 24 * 3600.0
    silent_seconds: float = 60.0


@dataclass(frozen=True)
class ServerSettings:
    """How a server is set up.

    Attributes:
        folder: where jobs, uploads and trained bundles are kept; of the server alone.
        bundles: names of shipped bundles or bundle folders.
        host: name or address to listen at.
        port: likewise; 0 takes a free one.
        token: what a client must send; needed unless `host` is of this machine alone.
        certificate: PEM file with the certificates, for HTTPS.
        key: PEM file with its private key.
        devices: ``cpu``, ``cuda:0``, ...: a process for each.
        memory: most memory for each of these processes, such as ``"4GB"``.
        datastore: folder of images and labels; `folder` / datastore without it.
        pacs: addresses of servers that jobs may fetch from.
        connection: how those are reached.
        origins: web pages of other origins that may call, such as ``https://viewer.example``.
        limits: how much is taken.

    Raises:
        InputError: what is given does not go together, or is not safe.
    """

    folder: Path
    bundles: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    devices: tuple[str, ...] = ("auto",)
    memory: str | None = None
    datastore: Path | None = None
    pacs: tuple[str, ...] = ()
    connection: Connection = field(default_factory=Connection)
    origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what is not safe."""
        if not self.bundles:
            raise InputError("a server needs at least one bundle: name it with --bundle.")
        if not self.is_local and self.token is None:
            raise InputError(
                f"{self.host} can be reached from other machines: give the server a token with "
                "--token env:NAME or file:PATH, or leave --host out."
            )
        if (self.certificate is None) != (self.key is None):
            raise InputError("HTTPS needs both a certificate and its key.")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise InputError(f"there is no file {path}.")
        for address in self.pacs:
            if parse_address(address).query.has_conditions:
                raise InputError(f"--allow-pacs {address!r}: leave the conditions out.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def jobs_folder(self) -> Path:
        """Where jobs are kept."""
        return self.folder / "jobs"

    @property
    def datastore_folder(self) -> Path:
        """Where the images and labels of the datastore lie."""
        return self.datastore or self.folder / "datastore"


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is that of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
