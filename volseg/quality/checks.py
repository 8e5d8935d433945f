"""What can be said of a case whatever its bundle was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from volseg.geometry import Affine, Grid
from volseg.metrics import LabelStatistics, VolumeStatistics
from volseg.quality.report import Flag, QualityReport, quality_report

_SIDES = {"L": "left", "R": "right", "P": "back", "A": "front", "I": "bottom", "S": "top"}
_CHECKED = ["finite", "contrast", "present", "border"]


def check_case(statistics: VolumeStatistics, grid: Grid) -> QualityReport:
    """Return what stands out in a case.

    Args:
        statistics: Of the image and its label map, with a row for every class of the bundle.
        grid: Of both.
    """
    flags = [*_of_image(statistics, grid), *_of_labels(statistics, grid)]
    return quality_report(flags, _CHECKED)


def _of_image(statistics: VolumeStatistics, grid: Grid) -> Iterator[Flag]:
    size = math.prod(grid.shape)
    for channel, found in enumerate(statistics.image):
        name = "the image" if len(statistics.image) == 1 else f"channel {channel} of the image"
        finite = 0 if found is None else found.voxels
        if finite < size:
            part = 1 - finite / size
            sentence = f"{part:.2%} of the voxels of {name} are no finite numbers"
            yield Flag("finite", "warning" if finite else "alarm", f"{sentence}.", value=part)
        if found is not None and found.minimum == found.maximum:
            sentence = f"every voxel of {name} has the value {found.minimum:g}."
            yield Flag("contrast", "alarm", sentence, value=found.minimum)


def _of_labels(statistics: VolumeStatistics, grid: Grid) -> Iterator[Flag]:
    rows = statistics.labels
    if not any(row.voxels for row in rows):
        yield Flag("present", "alarm", "nothing was segmented.", value=0)
        return
    for row in rows:
        if row.voxels == 0:
            sentence = f"{row.name} was not found."
            yield Flag("present", "note", sentence, label=row.name, value=0)
        sides = border_sides(row, grid)
        if sides:
            sentence = f"{row.name} reaches the edge of the image ({', '.join(sides)})."
            yield Flag("border", "note", sentence, label=row.name, value=len(sides))


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
