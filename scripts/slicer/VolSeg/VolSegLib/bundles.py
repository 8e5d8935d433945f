"""The bundles that volseg has, as its command line and its server describe them in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import VolSegError


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme, such as 10200004 of SCT (SNOMED CT), "Liver"."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SegmentKind:
    """What one value of a label map stands for.

    Attributes:
        value: in the label map.
        name: as people call it.
        color: red, green and blue from 0 to 1.
        category: what kind of thing it is.
        type: what it is.
        modifier: of the type, such as its side.
        region: where in the body it lies.
    """

    value: int
    name: str
    color: tuple[float, float, float]
    category: Code
    type: Code
    modifier: Code | None
    region: Code | None


@dataclass(frozen=True)
class Bundle:
    """A trained network: what it takes and gives.

    Attributes:
        name: unique among the bundles.
        reference: what volseg knows it by.
        version: of the bundle.
        description: for the user.
        channels: names of the images it takes, in order.
        segments: what its labels stand for.
    """

    name: str
    reference: str
    version: str
    description: str
    channels: tuple[str, ...]
    segments: tuple[SegmentKind, ...]


def read_bundles(rows: Any) -> list[Bundle]:
    """Return the bundles that can segment volumes.

    Args:
        rows: the JSON of `volseg bundle list --json` or of a server. Bundles for pictures (2D), and
            those without weights, are left out.

    Raises:
        VolSegError: it is not that JSON.
    """
    try:
        usable = [row for row in rows if row["spatial_dims"] == 3 and row.get("trained", True)]
        return [_bundle(row) for row in usable]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VolSegError(
            "the list of bundles cannot be understood "
            f"({type(error).__name__}: {error}): update volseg, or this extension."
        ) from error


def _bundle(row: Mapping[str, Any]) -> Bundle:
    return Bundle(
        name=row["name"],
        reference=row.get("folder", row["name"]),
        version=row["version"],
        description=row["description"],
        channels=tuple(row["channels"]),
        segments=tuple(
            _segment(name, value, row["segments"][name], row["colors"][name])
            for name, value in sorted(row["labels"].items(), key=lambda item: item[1])
        ),
    )


def _segment(name: str, value: int, codes: Mapping[str, Any], color: list[int]) -> SegmentKind:
    red, green, blue = (part / 255 for part in color)
    return SegmentKind(
        value=int(value),
        name=name,
        color=(red, green, blue),
        category=_code(codes["category"]),
        type=_code(codes["type"]),
        modifier=_first(codes["modifiers"]),
        region=_first(codes["regions"]),
    )


def _first(codes: list[Mapping[str, str]]) -> Code | None:
    return _code(codes[0]) if codes else None


def _code(code: Mapping[str, str]) -> Code:
    return Code(code["value"], code["scheme"], code["meaning"])
