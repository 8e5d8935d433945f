"""Groups of patients: their means with confidence intervals, and how two of them differ.

The patient is the unit: several values of one patient (two scans, two sides) count as their mean,
because they are not independent of each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation.bootstrap import RESAMPLES, Interval, Values, interval_of_mean


@dataclass(frozen=True)
class GroupMean:
    """A group in numbers.

    Attributes:
        patients: How many.
        mean: Over patients.
        standard_deviation: Of a sample (divisor n - 1); NaN for fewer than two patients.
        median: Over patients.
        interval: Of the mean, by bootstrap over patients.
    """

    patients: int
    mean: float
    standard_deviation: float
    median: float
    interval: Interval


@dataclass(frozen=True)
class GroupComparison:
    """How a second group differs from a first one, or a second time from a first.

    Attributes:
        paired: Whether the same patients are in both.
        patients: How many in the first and second, or how many pairs.
        difference: Mean of the second minus mean of the first.
        interval: Of the difference, by bootstrap over patients.
        p_mean: Two-sided, of Welch's t-test; of the paired t-test.
        p_rank: Two-sided, of the Mann-Whitney test; of Wilcoxon's signed-rank test.
        effect_size: Hedges' g, the difference in pooled standard deviations without their bias in
            small samples; of pairs Cohen's d_z, the mean difference in standard deviations of the
            differences.
        rank_effect: Rank-biserial correlation, from -1 to 1: how much more often a value of the
            second is above one of the first than below (Cliff's delta); of pairs the ranks of
            rises minus those of falls, as a share of all (D. S. Kerby, Comprehensive Psychology 3,
            2014). NaN for pairs that are all equal.
    """

    paired: bool
    patients: tuple[int, int]
    difference: float
    interval: Interval
    p_mean: float
    p_rank: float
    effect_size: float
    rank_effect: float


class RankTest(NamedTuple):
    """Wilcoxon's signed-rank test; both NaN where nothing differs."""

    p: float
    """Two-sided; NaN of fewer than two."""
    effect: float
    """Matched-pairs rank-biserial correlation, from -1 to 1; see `GroupComparison`."""


def patient_means(values: Sequence[float], patients: Sequence[str]) -> dict[str, float]:
    """Return the mean of each patient, in the order in which they come first.

    Raises:
        InputError: The two are not of one length, or a value is not finite.
    """
    if len(values) != len(patients):
        raise InputError(f"{len(values)} values belong to {len(patients)} patients; expected one.")
    of_patient: dict[str, list[float]] = {}
    for value, patient in zip(_finite(values), patients, strict=True):
        of_patient.setdefault(patient, []).append(float(value))
    return {patient: float(np.mean(found)) for patient, found in of_patient.items()}


def group_mean(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> GroupMean:
    """Return a group in numbers.

    Args:
        values: One a patient.
        level: Of the interval.
        seed: Of the bootstrap.

    Raises:
        InputError: There is no value, or one is not finite.
    """
    array = _finite(values)
    return GroupMean(
        patients=len(array),
        mean=float(array.mean()),
        standard_deviation=_deviation(array),
        median=float(np.median(array)),
        interval=interval_of_mean(array, level=level, seed=seed),
    )


def compare_groups(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> GroupComparison:
    """Return how two groups of different patients differ; one value a patient.

    Raises:
        InputError: A group is empty, or a value is not finite.
    """
    a, b = _finite(first), _finite(second)
    degrees = len(a) + len(b) - 2
    pooled = float("nan")
    if min(len(a), len(b)) > 1:
        spread = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
        pooled = float(np.sqrt(spread / degrees))
    unbiased = 1 - 3 / (4 * degrees - 1) if degrees else float("nan")
    difference = float(b.mean() - a.mean())
    return GroupComparison(
        paired=False,
        patients=(len(a), len(b)),
        difference=difference,
        interval=_interval_of_difference(b, a, level=level, seed=seed),
        p_mean=_p(stats.ttest_ind, b, a, equal_var=False),
        p_rank=_p(stats.mannwhitneyu, b, a),
        effect_size=unbiased * difference / pooled if pooled > 0 else float("nan"),
        rank_effect=float(np.sign(b[:, np.newaxis] - a).mean()),
    )


def compare_pairs(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> GroupComparison:
    """Return how the second values of patients differ from their first ones, in the same order.

    Raises:
        InputError: There are no pairs, or a value is not finite.
    """
    a, b = _finite(first), _finite(second)
    if len(a) != len(b):
        raise InputError(f"{len(a)} and {len(b)} values are no pairs: expected one of each.")
    differences = b - a
    spread = _deviation(differences)
    mean = float(differences.mean())
    ranked = rank_test(differences)
    return GroupComparison(
        paired=True,
        patients=(len(a), len(b)),
        difference=mean,
        interval=interval_of_mean(differences, level=level, seed=seed),
        p_mean=_p(stats.ttest_rel, b, a),
        p_rank=ranked.p,
        effect_size=mean / spread if spread > 0 else float("nan"),
        rank_effect=ranked.effect,
    )


def rank_test(differences: Sequence[float] | Values) -> RankTest:
    """Return whether differences of pairs lie about 0, by their ranks; one a patient."""
    array = np.asarray(differences, dtype=np.float64)
    changed = array[array != 0]
    if not len(changed):
        return RankTest(float("nan"), float("nan"))
    ranks = stats.rankdata(np.abs(changed))
    effect = float((np.sign(changed) * ranks).sum() / ranks.sum())
    p = float(stats.wilcoxon(array).pvalue) if len(array) > 1 else float("nan")
    return RankTest(p, effect)


def _finite(values: Sequence[float]) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(
            f"statistics need a list of finite numbers, got {list(values)[:5]}"
            f"{' ...' if len(values) > 5 else ''}: leave out what was not measured."
        )
    return array


def _deviation(array: Values) -> float:
    return float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def _difference(first: Values, second: Values, axis: int = -1) -> Any:
    return np.mean(first, axis=axis) - np.mean(second, axis=axis)


def _interval_of_difference(first: Values, second: Values, *, level: float, seed: int) -> Interval:
    """Return the bias-corrected and accelerated interval (Efron 1987) of independent groups."""
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is {level}; expected one between 0 and 1.")
    if min(len(first), len(second)) < 2:
        return Interval(float("nan"), float("nan"))
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        value = float(_difference(first, second))
        return Interval(value, value)
    with warnings.catch_warnings():
        # Where the correction is not defined, the interval is NaN and says so.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (first, second),
            _difference,
            n_resamples=RESAMPLES,
            batch=1000,
            vectorized=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(float(found.low), float(found.high))


def _p(test: Callable[..., Any], *values: Values, **options: Any) -> float:
    """Return the p-value of a test; NaN where there are too few values, or none that differ."""
    if min(map(len, values)) < 2 or all(np.ptp(one) == 0 for one in values):
        return float("nan")
    return float(test(*values, **options).pvalue)
