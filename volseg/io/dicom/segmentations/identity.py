"""The identifiers and times of written objects: new ones, or ones that follow from the content."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

MANUFACTURER = "volseg"
NOT_STATED = "not stated"  # of what a type 1 attribute must hold and nobody knows
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")  # DICOM PS3.3 C.8.20.2
_EARLIEST = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation.

    Attributes:
        name: such as the title of a bundle.
        version: of it; empty if it is not known.
        type: one of `ALGORITHM_TYPES`.
    """

    name: str
    version: str = ""
    type: str = "AUTOMATIC"


def made_by(algorithm: Algorithm | None) -> tuple[str, list[str], str]:
    """Return model name, software versions and series description of what an algorithm made.

    Without one, labels of unknown origin were only converted.
    """
    own = f"{MANUFACTURER} {version('volseg')}"
    if algorithm is None:
        return MANUFACTURER, [own], "Segmentation"
    return (
        algorithm.name[:64],
        [algorithm.version[:64], own],
        f"Segmentation by {algorithm.name}"[:64],
    )


@dataclass(frozen=True)
class Identity:
    """Where the identifiers of an object come from, and when it was made.

    Attributes:
        uid: gives the UID for a role, such as "series".
        created: local time.
    """

    uid: Callable[[str], str]
    created: datetime

    def stamp(self, dataset: Any) -> None:
        """Set the times of an object at which it was made."""
        date, time = self.created.strftime("%Y%m%d"), self.created.strftime("%H%M%S")
        for name in ("InstanceCreation", "Content", "StructureSet", "Series"):
            for part, value in (("Date", date), ("Time", time)):
                if f"{name}{part}" in dataset:
                    setattr(dataset, f"{name}{part}", value)
        for item in dataset.get("ContributingEquipmentSequence") or ():
            if item.get("ManufacturerModelName") == "highdicom":  # others are the source's
                item.ContributionDateTime = date + time


def identity_of(content: Iterable[bytes], headers: Iterable[Any], *, stable: bool) -> Identity:
    """Return new identifiers and the present time or, if asked for, what follows from the content.

    Args:
        content: all that distinguishes the object: labels, names, codes, algorithm.
        headers: of the source.
        stable: whether the same content and the same source give the same identifiers. The object
            is then the same byte by byte, so its times are the latest ones of the source.
    """
    return _stable_identity(content, headers) if stable else _new_identity()


def derived_uid(*words: str) -> str:
    """Return the UID that follows from words: the same ones give the same."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(words)).int}"


def _new_identity() -> Identity:
    return Identity(
        uid=lambda role: f"2.25.{uuid.uuid4().int}",  # noqa: ARG005 - each role gets its own
        created=datetime.now(),
    )


def _stable_identity(content: Iterable[bytes], headers: Iterable[Any]) -> Identity:
    digest = hashlib.sha256()
    created = _EARLIEST
    for part in content:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    for header in headers:
        digest.update(f"{header.SOPInstanceUID} ".encode())
        created = max(created, _time_of(header))
    name = digest.hexdigest()
    # As PS3.5 B.2 derives a UID from a UUID; a name-based one is RFC 9562's version 5.
    return Identity(
        uid=lambda role: f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {role}').int}",
        created=created,
    )


def _time_of(header: Any) -> datetime:
    for name in ("Content", "Acquisition", "Series", "Study"):
        date, time = str(header.get(f"{name}Date", "")), str(header.get(f"{name}Time", ""))
        for text, form in ((date + time[:6], "%Y%m%d%H%M%S"), (date, "%Y%m%d")):
            try:
                return datetime.strptime(text, form)
            except ValueError:
                continue
    return _EARLIEST
