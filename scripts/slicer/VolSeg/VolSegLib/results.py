"""What volseg gives back of a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """A label map, and what stands out in it.

    Attributes:
        labels: its file.
        remarks: sentences on what makes it doubtful, the gravest first.
    """

    labels: Path
    remarks: tuple[str, ...] = ()


def read_remarks(flags: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the sentences of a quality report of volseg, without its mere notes."""
    return tuple(flag["sentence"] for flag in flags if flag["severity"] != "note")
