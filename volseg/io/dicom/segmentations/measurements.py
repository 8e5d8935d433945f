"""What a structured report says of a segment: its volume, and the intensities of its voxels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentMeasurements:
    """Measurements of one segment; what does not exist for an empty one is None.

    Attributes:
        number: Of the segment.
        volume: In mm³.
        mean: Of the intensities of its voxels, in the unit of the image, as are
        standard_deviation: of all its voxels,
        minimum: the lowest,
        maximum: the highest, and
        median: the middle one.
    """

    number: int
    volume: float
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    median: float | None = None
