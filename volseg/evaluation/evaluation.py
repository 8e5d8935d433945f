"""What an evaluation found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from volseg.evaluation.bootstrap import Interval
from volseg.evaluation.class_score import ClassScore, Label
from volseg.evaluation.empty_rule import LEAVE_OUT, EmptyRule
from volseg.evaluation.metric import METRICS, Metric
from volseg.evaluation.pairs import CasePair
from volseg.evaluation.summary import (
    Statistics,
    intervals_over_classes,
    mean_over_classes,
    summarize,
)


class Presence(NamedTuple):
    """In how many cases which maps hold a class, however these count."""

    both: int
    one: int
    """Missed by the prediction, or invented by it."""
    neither: int


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: a table of cases and classes, and what went wrong."""

    rows: list[ClassScore]
    """One row for each case that could be evaluated and each class."""
    labels: Mapping[str, Label]
    """The classes that were scored, name to value; a region has several values."""
    surface_tolerance_mm: float
    """Distance that counted as agreement in `surface_dice`, in mm."""
    failures: dict[str, str] = field(default_factory=dict)
    """Cases that could not be evaluated, with the reason; they are in no row and no mean."""
    undeclared: dict[str, list[int]] = field(default_factory=dict)
    """Values found in the maps of a case that are not among `labels`, and so were not scored."""
    ignore: int | None = None
    """Value of the reference whose voxels counted in no metric."""
    empty: EmptyRule = LEAVE_OUT
    """How classes counted that a map lacks."""
    patients: dict[str, str] = field(default_factory=dict)
    """Whom each case is of; a case that is not here is a patient of its own."""
    pairs: dict[str, CasePair] = field(default_factory=dict)
    """The files of each case, where they came from files."""
    length_unit: str = "mm"
    """Of distances, whatever their columns are called; ``pixels`` of pictures."""

    @property
    def cases(self) -> list[str]:
        """The cases that could be evaluated, in order."""
        return list(dict.fromkeys(row.case for row in self.rows))

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What its metrics are called, without those that apply to none of its cases.

        Pictures have no volume, and distances in their own unit.
        """
        found = dict(METRICS)
        if self.rows and all(math.isnan(row.reference_ml) for row in self.rows):
            found["volume_error_relative"] = replace(
                found["volume_error_relative"], title="relative area error"
            )
            if all(math.isnan(row.volume_error_ml) for row in self.rows):
                del found["volume_error_ml"]
        return {
            name: replace(metric, unit=self.length_unit) if metric.unit == "mm" else metric
            for name, metric in found.items()
        }

    def presence(self) -> dict[str, Presence]:
        """Return in how many cases both maps, one of them or neither hold each class."""
        found = {name: [0, 0, 0] for name in self.labels}
        for row in self.rows:
            held = (row.prediction_voxels > 0) + (row.reference_voxels > 0)
            found[row.name][2 - held] += 1
        return {name: Presence(*counts) for name, counts in found.items()}

    def patient(self, case: str) -> str:
        """Return whom a case is of."""
        return self.patients.get(case, case)

    def summary(self) -> dict[str, dict[str, Statistics]]:
        """Return the statistics by class name and metric."""
        return self._summary

    def mean_over_classes(self) -> dict[str, float]:
        """Return the mean of the class means of each metric."""
        return mean_over_classes(self.summary())

    def intervals_over_classes(self) -> dict[str, Interval]:
        """Return the 95 % intervals of these means, by bootstrap over patients."""
        return self._over_classes

    @cached_property
    def _over_classes(self) -> dict[str, Interval]:
        return intervals_over_classes(self.rows, self.patients)

    @cached_property
    def _summary(self) -> dict[str, dict[str, Statistics]]:
        return summarize(self.rows, self.patients)
