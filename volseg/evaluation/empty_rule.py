"""What counts where a class is missing from one of the maps of a case, or from both.

What the metrics themselves say is in `volseg.metrics`: nothing (NaN) where neither map holds the
class, infinite distances where one of them does. That is what is left out of means by default, and
counted. Challenges and papers do otherwise at times; numbers are comparable only under one rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from volseg.errors import InputError
from volseg.evaluation.class_score import ClassScore
from volseg.evaluation.metric import METRICS

_DISTANCES = tuple(name for name in METRICS if name.endswith("_mm"))


@dataclass(frozen=True)
class EmptyRule:
    """How the cases count in which a class is missing.

    Attributes:
        neither_is_perfect: Whether a case where neither map holds the class counts as perfect (Dice
            1, distance 0, as BraTS has it) or is left out of the means (as nnU-Net has it).
        missed_distance_mm: What distances are where one map alone holds the class, such as the
            diagonal of the image (BraTS: 374 mm), of pictures in pixels; infinite and left out of
            the means without it.
    """

    neither_is_perfect: bool = False
    missed_distance_mm: float | None = None

    def __post_init__(self) -> None:
        """Check the distance.

        Raises:
            InputError: It is negative or not finite.
        """
        distance = self.missed_distance_mm
        if distance is not None and not (math.isfinite(distance) and distance >= 0):
            raise InputError(
                f"the distance of a missed class is {distance} mm; expected a number of at least 0."
            )

    def applied(self, score: ClassScore) -> ClassScore:
        """Return the score as it counts."""
        held = score.prediction_voxels > 0, score.reference_voxels > 0
        if not any(held) and self.neither_is_perfect:
            values: dict[str, Any] = {name: metric.perfect for name, metric in METRICS.items()}
            return replace(score, **values)
        if held[0] != held[1] and self.missed_distance_mm is not None:
            distances: dict[str, Any] = dict.fromkeys(_DISTANCES, self.missed_distance_mm)
            return replace(score, **distances)
        return score

    def sentences(self, length_unit: str) -> list[str]:
        """Return the rule in words, with distances in their unit."""
        return [
            "Where neither map holds a class, the case counts as perfect: overlaps 1, distances 0."
            if self.neither_is_perfect
            else "Where neither map holds a class, no metric applies: the case is left out of its "
            "means, and counted.",
            "Where only one map holds it, overlaps are 0 and distances infinite: left out, "
            "and counted as missed."
            if self.missed_distance_mm is None
            else "Where only one map holds it, overlaps are 0 and distances count as "
            f"{self.missed_distance_mm:g} {length_unit}.",
        ]


LEAVE_OUT = EmptyRule()
"""What does not apply, or is infinite, is left out of means, and counted."""
