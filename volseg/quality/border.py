"""Where a label reaches the edge of its image."""

from __future__ import annotations

from volseg.geometry import Affine, Grid
from volseg.metrics import LabelStatistics

_SIDES = {
    "L": "left",
    "R": "right",
    "P": "posterior",
    "A": "anterior",
    "I": "inferior",
    "S": "superior",
}


def border_sides(row: LabelStatistics, grid: Grid) -> list[str]:
    """Return the sides of the image that a label reaches, as the patient's; in 2D as x and y.

    Axes of a single plane are left out: there everything reaches both sides.
    """
    if row.first_voxel is None or row.last_voxel is None:
        return []
    sides = [_ends(code) for code in grid.affine.orientation]
    if len(grid.shape) == 2:
        sides = [("low x", "high x"), ("low y", "high y")]
    found = []
    for names, size, first, last in zip(
        sides, grid.shape, row.first_voxel, row.last_voxel, strict=True
    ):
        reached = (first == 0, last == size - 1)
        found += [name for name, there in zip(names, reached, strict=True) if there and size > 1]
    return found


def _ends(code: str) -> tuple[str, str]:
    """Return the names of the low and the high end of an axis that points to a side, such as R."""
    (pair,) = (pair for pair in Affine.WORLD_AXES if code in pair)
    opposite = pair[pair.index(code) - 1]
    return _SIDES[opposite], _SIDES[code]
