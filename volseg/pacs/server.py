"""The protocol behind which DICOMweb and DIMSE are the same to the rest of volseg."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pydicom import Dataset

Level = Literal["STUDY", "SERIES", "IMAGE"]


@dataclass(frozen=True)
class Instance:
    """One SOP instance: what a server lists, or what lies in a file."""

    study: str
    series: str
    uid: str
    sop_class: str = ""
    transfer_syntax: str = ""


@dataclass(frozen=True)
class Outgoing:
    """An instance to be sent, read only when it is its turn."""

    instance: Instance
    path: Path = field(compare=False)
    load: Callable[[], Dataset] = field(compare=False, repr=False)


class Server(Protocol):
    """A server of DICOM objects. Every method may raise `ServerError`."""

    @property
    def name(self) -> str:
        """The address without anything secret, for sentences."""

    def echo(self) -> None:
        """Make sure that the server is there and lets this client in."""

    def find(
        self, level: Level, keys: Mapping[str, str], returned: Sequence[str]
    ) -> Iterator[dict[str, str]]:
        """Yield what matches the keys, keyword to text; what the server does not say is left out.

        The server is asked for no more than is taken.

        Args:
            level: what is looked for; UIDs of the levels above are among the keys.
            keys: keyword to matching value.
            returned: further keywords wanted.
        """

    def fetch(self, instances: Sequence[Instance], receive: Callable[[Dataset], None]) -> None:
        """Hand over instances of one series one by one, in any order.

        Errors of `receive` end the transfer and are passed on.
        """

    def push(
        self, files: Sequence[Outgoing], report: Callable[[Outgoing, str | None], None]
    ) -> None:
        """Send files one by one; each is reported with None, or with why the server refused it."""
