"""Series on servers as inputs of ``volseg segment``, and servers as where its results go."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from volseg.cli.option_groups import options_under
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.pacs import Address, Connection, FoundSeries, Server

_SOURCE = "source"
_option = options_under("Servers")


@dataclass(frozen=True)
class RemoteSeries:
    """A series on a server, found and not fetched yet."""

    address: Address
    server: Server
    found: FoundSeries

    def __str__(self) -> str:
        """Return the address of the series, which can be given as an input again."""
        return f"{self.address}?study={self.found.study}&series={self.found.series}"


@dataclass(frozen=True)
class Transfer:
    """Where series are kept, and where results are sent."""

    keep: Path | None
    push: str | None


def transfer(
    keep: Annotated[
        Path | None,
        _option(
            "--fetched",
            help="Keep series that come from a server in this folder; fetched again if missing.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        _option(
            metavar="ADDRESS",
            help="Send the DICOM files that were written to this server, or to the 'source'.",
        ),
    ] = None,
) -> Transfer:
    """Return what the options say: see `given`."""
    from volseg.pacs import parse_address

    if push is not None and push != _SOURCE and parse_address(push).query.has_conditions:
        raise InputError(f"--push {push!r}: conditions have no meaning there, leave them out.")
    return Transfer(keep, push)


def find_remote(text: str, connection: Connection) -> RemoteSeries:
    """Return the only series that an address with conditions means.

    Raises:
        InputError: if there are no conditions, or no series or several that meet them.
        ServerError: if the server cannot be asked.
    """
    from volseg.pacs import find_one_series, open_server, parse_address

    address = parse_address(text)
    if not address.query.has_conditions:
        raise InputError(
            f"{address} names a server and no series: add ?series=UID or other conditions; "
            "`volseg pacs find` lists what it has."
        )
    server = open_server(address, connection)
    return RemoteSeries(address, server, find_one_series(server, address.query))


@contextlib.contextmanager
def on_disk(
    source: Path | RemoteSeries,
    keep: Path | None,
    fetching: Callable[[], AbstractContextManager[Callable[[int, int], None]]],
) -> Iterator[Path]:
    """Give the path of a source while the block runs; a series is fetched first.

    Args:
        source: a path, which is given as it is, or a series.
        keep: folder that a series stays in; a temporary one by default.
        fetching: entered while a series is fetched; gives what is called with how many instances
            are there and how many there are to be.

    Raises:
        ServerError: if the series cannot be fetched.
        OutputError: if it cannot be written.
    """
    from volseg.pacs import fetch_series

    if isinstance(source, Path):
        yield source
        return
    with contextlib.ExitStack() as resources:
        if keep is None:
            keep = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="volseg-")))
        folder = keep / source.found.series
        with fetching() as progress:
            fetch_series(source.server, source.found, folder, progress=progress)
        yield folder


def require_pushable(
    to: str,
    sources: Iterable[Path | RemoteSeries],
    formats: Sequence[str],
    *,
    anonymized: bool,
) -> None:
    """Refuse, before any work, to send what is not DICOM, or back to what is no server.

    Raises:
        InputError: if no format is DICOM, or `to` is "source" and a source is no server, or does
            not have the images under the UIDs that anonymized results refer to.
    """
    if set(formats) <= {"nifti"}:
        raise InputError("--push sends DICOM files: add dicom-seg, for example, to --format.")
    if to == _SOURCE and anonymized:
        raise InputError(
            "--push source: anonymized results refer to images by new UIDs, which their server "
            "does not know; give the address of one that has the anonymized images."
        )
    local = next((source for source in sources if isinstance(source, Path)), None)
    if to == _SOURCE and local is not None:
        raise InputError(
            f"--push source: {local} does not come from a server; give the address of one."
        )


def push_written(
    files: Sequence[Path], source: Path | RemoteSeries, to: str, connection: Connection
) -> int:
    """Send the DICOM files among what was written for a case, and return how many.

    Raises:
        ServerError: if the server cannot take them.
    """
    from volseg.pacs import is_part10, open_server, parse_address, push_files

    if to == _SOURCE and isinstance(source, RemoteSeries):
        server = source.server
    else:
        server = open_server(parse_address(to), connection)
    pushed = push_files(server, [path for path in files if is_part10(path)])
    return len(pushed.sent) + len(pushed.already_there)
