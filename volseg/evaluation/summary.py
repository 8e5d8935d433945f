"""Statistics of the scores over the cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from volseg.evaluation.case import METRICS, ClassScore


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
    """Cases in which neither map holds the class, so that the metric does not apply (NaN)."""
    n_infinite: int
    """Cases in which only one of the maps holds the class, for metrics that are infinite then."""


def statistics(values: Iterable[float]) -> Statistics:
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
    )


def summarize(rows: Sequence[ClassScore]) -> dict[str, dict[str, Statistics]]:
    """Return the statistics by class name and metric."""
    classes: dict[str, list[ClassScore]] = {}
    for row in rows:
        classes.setdefault(row.name, []).append(row)
    return {
        name: {metric: statistics(getattr(row, metric) for row in class_rows) for metric in METRICS}
        for name, class_rows in classes.items()
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
