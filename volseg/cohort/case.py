"""One case of a cohort: its name, its images, and whatever else its manifest says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from volseg.errors import InputError

Value = str | int | float | bool | None
"""What a cell of a manifest holds."""

# Of a file name on common file systems 255 bytes, less what results and tickets add.
_LONGEST_NAME = 200
_NOT_IN_NAMES = '/\\:*?"<>|'


@dataclass(frozen=True)
class CohortCase:
    """One case.

    Attributes:
        case: Its name, which its results are called after.
        image: Full path of its image file or DICOM folder; of several files one a channel, by
            the names of the bundle's channels.
        series: Series Instance UID, of a DICOM folder that holds several series; of several
            channels by name.
        columns: What else the manifest says, carried through to the table.
    """

    case: str
    image: str | Mapping[str, str]
    series: str | Mapping[str, str] | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, Path]:
        """Its files or folders by channel; of a single image under the name ``image``."""
        images = {"image": self.image} if isinstance(self.image, str) else self.image
        return {channel: Path(path) for channel, path in images.items()}

    def as_line(self) -> str:
        """Return the case as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> CohortCase:
        """Return the case that `as_line` wrote."""
        entries: dict[str, Any] = json.loads(line)
        return cls(**entries)


def require_usable_names(cases: Iterable[CohortCase], source: object) -> None:
    """Refuse names that cannot be told apart, or cannot be names of files.

    Raises:
        InputError: A name is empty, too long, holds a character that file systems refuse, or two
            are the same, be it but for capitals.
    """
    seen: dict[str, CohortCase] = {}
    for case in cases:
        name = case.case
        refused = sorted(set(_NOT_IN_NAMES) & set(name))
        if not name or name.startswith(".") or not name.isprintable() or refused:
            why = f"it holds {' '.join(refused)}" if refused else "it is no name of a file"
            raise InputError(
                f"the case {name!r} of {source} cannot name its results ({why}): use letters, "
                "digits, - and _."
            )
        if len(name.encode()) > _LONGEST_NAME:
            raise InputError(
                f"the name of the case {name[:30]}... of {source} has {len(name.encode())} bytes; "
                f"expected at most {_LONGEST_NAME}."
            )
        # Some file systems tell no capitals apart.
        other = seen.setdefault(name.casefold(), case)
        if other is not case:
            raise InputError(
                f"two cases of {source} would be written to the same files: {other.case!r} "
                f"({_shown(other)}) and {name!r} ({_shown(case)}); give every case its own name."
            )


def _shown(case: CohortCase) -> str:
    return ", ".join(map(str, case.paths.values()))
