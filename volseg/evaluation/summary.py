"""Statistics of the scores over the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from volseg.evaluation.bootstrap import (
    Interval,
    intervals_of_class_means,
    intervals_of_means,
)
from volseg.evaluation.class_score import ClassScore
from volseg.evaluation.metric import METRICS

_UNKNOWN = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class Statistics:
    """One metric of one class over all cases.

    The numbers describe the `n` finite values. Read them together with the two counts beside
    them: a distance that is infinite because the structure was missed cannot enter a mean.
    """

    mean: float
    standard_deviation: float
    """Of a sample (divisor n - 1); NaN for fewer than two values."""
    median: float
    minimum: float
    maximum: float
    n: int
    """Cases with a finite value."""
    n_empty: int
    """Cases to which the metric does not apply (NaN): without the class, or without a surface."""
    n_infinite: int
    """Cases in which only one of the maps holds the class, for metrics that are infinite then."""
    patients: int
    """Patients with a finite value."""
    interval: Interval
    """Of the mean, 95 %, by bootstrap over patients; NaN for fewer than two of them."""


def statistics(
    values: Iterable[float], *, patients: int = 0, interval: Interval = _UNKNOWN
) -> Statistics:
    """Return the statistics of one metric; NaN is counted as empty, infinity as infinite."""
    array = np.array(list(values), dtype=float)
    finite = array[np.isfinite(array)]
    nan = float("nan")
    return Statistics(
        mean=float(finite.mean()) if finite.size else nan,
        standard_deviation=float(finite.std(ddof=1)) if finite.size > 1 else nan,
        median=float(np.median(finite)) if finite.size else nan,
        minimum=float(finite.min()) if finite.size else nan,
        maximum=float(finite.max()) if finite.size else nan,
        n=int(finite.size),
        n_empty=int(np.isnan(array).sum()),
        n_infinite=int(np.isinf(array).sum()),
        patients=patients,
        interval=interval,
    )


def summarize(
    rows: Sequence[ClassScore], patients: Mapping[str, str] | None = None
) -> dict[str, dict[str, Statistics]]:
    """Return the statistics by class name and metric.

    Args:
        rows: Of the cases.
        patients: Whom each case is of; a case that is not there is a patient of its own.
    """
    classes: dict[str, list[ClassScore]] = {}
    for row in rows:
        classes.setdefault(row.name, []).append(row)
    return {name: _of_class(class_rows, patients or {}) for name, class_rows in classes.items()}


def _of_class(rows: Sequence[ClassScore], patients: Mapping[str, str]) -> dict[str, Statistics]:
    table = np.array([[getattr(row, metric) for metric in METRICS] for row in rows])
    owners = [patients.get(row.case, row.case) for row in rows]
    intervals = intervals_of_means(table, owners)
    return {
        metric: statistics(
            column,
            patients=len(
                {one for one, value in zip(owners, column, strict=True) if isfinite(value)}
            ),
            interval=interval,
        )
        for metric, column, interval in zip(METRICS, table.T, intervals, strict=True)
    }


def mean_over_classes(summary: dict[str, dict[str, Statistics]]) -> dict[str, float]:
    """Return the mean of the class means of each metric; every class has the same weight.

    A class without any finite value is left out; if that holds for all, the mean is NaN.
    """
    means = {
        metric: [table[metric].mean for table in summary.values() if table[metric].n > 0]
        for metric in METRICS
    }
    return {metric: float(np.mean(v)) if v else float("nan") for metric, v in means.items()}


def intervals_over_classes(
    rows: Sequence[ClassScore], patients: Mapping[str, str] | None = None
) -> dict[str, Interval]:
    """Return the 95 % intervals of `mean_over_classes`, by bootstrap over patients.

    Args:
        rows: Of the cases.
        patients: Whom each case is of; a case that is not there is a patient of its own.
    """
    cases = {case: place for place, case in enumerate(dict.fromkeys(row.case for row in rows))}
    names = {name: place for place, name in enumerate(dict.fromkeys(row.name for row in rows))}
    if not rows:
        return dict.fromkeys(METRICS, _UNKNOWN)
    table = np.full((len(cases), len(names), len(METRICS)), np.nan)
    for row in rows:
        table[cases[row.case], names[row.name]] = [getattr(row, metric) for metric in METRICS]
    owners = [(patients or {}).get(case, case) for case in cases]
    return dict(zip(METRICS, intervals_of_class_means(table, owners), strict=True))
