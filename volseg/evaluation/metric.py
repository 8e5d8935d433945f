"""The metrics of the table: what they are called, their unit, and which values are better."""

from __future__ import annotations

import math
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
        decimals: That are worth showing.
    """

    title: str
    unit: str
    better: Better
    perfect: float
    decimals: int

    @property
    def heading(self) -> str:
        """The title with the unit, as over a column."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def text(self, value: float) -> str:
        """Return a value as people read it: a dash where there is none."""
        if math.isnan(value):
            return "-"
        return "infinite" if math.isinf(value) else f"{value:.{self.decimals}f}"

    def interval_text(self, interval: tuple[float, float], *, signed: bool = False) -> str:
        """Return an interval as people read it: empty where there is none."""
        low, high = interval
        if math.isnan(low):
            return ""
        style = f"{'+' if signed else ''}.{min(3, self.decimals)}f"
        return f"{low:{style}} to {high:{style}}"


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", "", Better.HIGHER, 1, 4),
    "iou": Metric("IoU", "", Better.HIGHER, 1, 4),
    "surface_dice": Metric("surface Dice", "", Better.HIGHER, 1, 4),
    "hausdorff95_mm": Metric("HD95", "mm", Better.LOWER, 0, 2),
    "average_surface_distance_mm": Metric("surface distance", "mm", Better.LOWER, 0, 3),
    "volume_error_ml": Metric("volume error", "mL", Better.NEARER_ZERO, 0, 3),
    "volume_error_relative": Metric("relative volume error", "", Better.NEARER_ZERO, 0, 4),
}
"""By the name of their column."""
