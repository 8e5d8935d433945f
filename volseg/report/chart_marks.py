"""What charts of an evaluation are made of: cases as points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SQUARE, EDGE = 280, 44
"""Side of a square chart, and the room of its axes, in pixels."""


@dataclass(frozen=True)
class Point:
    """A case in a chart."""

    x: float
    y: float
    text: str


def dots_path(places: Sequence[tuple[float, float]]) -> str:
    """Return a path of points, which round line ends make dots of."""
    return "".join(f"M{x:g} {y:g}h0" for x, y in places)
