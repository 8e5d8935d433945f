"""What is measured of each segment: its volume, and the intensities of its voxels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import Grid


@dataclass(frozen=True)
class SegmentMeasurements:
    """Measurements of one segment; what does not exist for an empty one is None.

    Attributes:
        number: of the segment.
        volume: mm³.
        mean: of the intensities of its voxels, in the unit of the image, as are
        standard_deviation: of all its voxels,
        minimum: lowest,
        maximum: highest, and
        median: middle one.
    """

    number: int
    volume: float
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    median: float | None = None


def measure_segments(
    labels: npt.NDArray[Any], intensities: npt.NDArray[Any], grid: Grid, numbers: Iterable[int]
) -> list[SegmentMeasurements]:
    """Return the measurements of segments.

    Args:
        labels: `(x, y, z)` whole numbers.
        intensities: `(x, y, z)` true values; those that are not finite are left out.
        grid: of both.
        numbers: of the segments.
    """
    boxes = dict(enumerate(ndimage.find_objects(labels), start=1))
    return [_measured(labels, intensities, grid, number, boxes.get(number)) for number in numbers]


def _measured(
    labels: npt.NDArray[Any],
    intensities: npt.NDArray[Any],
    grid: Grid,
    number: int,
    box: tuple[slice, ...] | None,
) -> SegmentMeasurements:
    if box is None:
        return SegmentMeasurements(number, 0.0)
    inside = labels[box] == number
    volume = float(np.count_nonzero(inside) * grid.voxel_volume)
    values = intensities[box][inside].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return SegmentMeasurements(number, volume)
    return SegmentMeasurements(
        number=number,
        volume=volume,
        mean=float(values.mean()),
        standard_deviation=float(values.std()),
        minimum=float(values.min()),
        maximum=float(values.max()),
        median=float(np.median(values)),
    )
