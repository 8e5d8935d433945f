"""The metrics of the table: what they are called, their unit, and which values are better."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """Which of two values of a metric is the better one."""

    HIGHER = "higher"
    LOWER = "lower"
    NEARER_ZERO = "nearer zero"


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        title: As people read it.
        unit: Empty for one that is a share.
        better: Which values are.
        perfect: The value of a prediction that is the reference.
    """

    title: str
    unit: str
    better: Better
    perfect: float

    @property
    def heading(self) -> str:
        """The title with the unit, as over a column."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def gain(self, value: float, other: float) -> float:
        """Return by how much a value is better than another one; negative if it is worse."""
        if self.better is Better.NEARER_ZERO:
            return abs(other) - abs(value)
        return value - other if self.better is Better.HIGHER else other - value


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", "", Better.HIGHER, 1),
    "iou": Metric("IoU", "", Better.HIGHER, 1),
    "surface_dice": Metric("surface Dice", "", Better.HIGHER, 1),
    "hausdorff95_mm": Metric("HD95", "mm", Better.LOWER, 0),
    "average_surface_distance_mm": Metric("surface distance", "mm", Better.LOWER, 0),
    "volume_error_ml": Metric("volume error", "mL", Better.NEARER_ZERO, 0),
    "volume_error_relative": Metric("relative volume error", "", Better.NEARER_ZERO, 0),
}
"""By the name of their column."""
