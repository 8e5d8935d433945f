"""Confidence intervals by bootstrap, with the patient as the unit that is drawn.

Cases of one patient are not independent of each other, so that patients are drawn with all of
their cases (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section
3.8). The interval is the bias-corrected and accelerated one of B. Efron, "Better bootstrap
confidence intervals", Journal of the American Statistical Association 82, 1987.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from volseg.errors import InputError

Values = npt.NDArray[np.float64]

RESAMPLES = 9999
# Draws held at once.
_DRAWS = 4_000_000


class Interval(NamedTuple):
    """A confidence interval; NaN where there is too little to tell."""

    low: float
    high: float


def intervals_of_means(
    values: npt.ArrayLike, patients: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Return the interval of the mean over cases of each column.

    Values that are not finite are left out, and patients who have no others. Of fewer than two
    patients there is no interval. Columns with values of the same cases are drawn together.

    Args:
        values: ``(cases, columns)``.
        patients: Of each case.
        level: Of the interval.
        seed: Of the draws.

    Raises:
        InputError: There is not one patient a case, or the level is no share.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(patients):
        raise InputError(
            f"{len(table)} values belong to {len(patients)} patients; expected one of each case."
        )
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is {level}; expected one between 0 and 1.")
    known = np.isfinite(table)
    found = [Interval(np.nan, np.nan)] * table.shape[1]
    groups: dict[bytes, list[int]] = {}
    for column in range(table.shape[1]):
        groups.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in groups.values():
        cases = known[:, columns[0]]
        owners = [patient for patient, kept in zip(patients, cases, strict=True) if kept]
        intervals = _of_columns(table[cases][:, columns], owners, level, seed)
        for column, interval in zip(columns, intervals, strict=True):
            found[column] = interval
    return found


def interval_of_mean(values: Sequence[float] | Values, *, level: float, seed: int) -> Interval:
    """Return the interval of the mean of values of one patient each; see `intervals_of_means`."""
    table = np.asarray(values, dtype=np.float64)[:, np.newaxis]
    patients = [str(index) for index in range(len(table))]
    return intervals_of_means(table, patients, level=level, seed=seed)[0]


def intervals_of_class_means(
    values: npt.ArrayLike, patients: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Return the interval of the mean over classes of their means over cases, of each metric.

    All classes of a case are drawn together, as they are not independent of each other. A class
    that no drawn patient has is left out of that draw.

    Args:
        values: ``(cases, classes, metrics)``; what is not finite is left out.
        patients: Of each case.
        level: Of the interval.
        seed: Of the draws.
    """
    table = np.asarray(values, dtype=np.float64)
    cases, classes, metrics = table.shape
    flat = table.reshape(cases, classes * metrics)
    known = np.isfinite(flat)
    sums, counts = _by_patient(np.where(known, flat, 0), patients), _by_patient(known, patients)

    def means(weights: Values) -> Values:
        shape = (len(weights), classes, metrics)
        of_classes = np.full(shape, np.nan)
        drawn = (weights @ counts).reshape(shape)
        np.divide((weights @ sums).reshape(shape), drawn, out=of_classes, where=drawn > 0)
        there = np.isfinite(of_classes).sum(axis=1)
        found = np.full(there.shape, np.nan)
        np.divide(np.nansum(of_classes, axis=1), there, out=found, where=there > 0)
        return found

    number = len(sums)
    drawn = np.concatenate([means(weights) for weights in _weights(number, seed)])
    without = means(1 - np.eye(number))
    owners = (counts.reshape(number, classes, metrics).sum(axis=1) > 0).sum(axis=0)
    intervals = _bca(means(np.ones((1, number)))[0], drawn, without, level)
    return [
        interval if count > 1 else Interval(np.nan, np.nan)
        for interval, count in zip(intervals, owners, strict=True)
    ]


def _of_columns(values: Values, patients: Sequence[str], level: float, seed: int) -> list[Interval]:
    """Return the intervals of the means of columns without gaps."""
    sums = _by_patient(values, patients)
    if len(sums) < 2:
        return [Interval(np.nan, np.nan)] * values.shape[1]
    counts = _by_patient(np.ones((len(values), 1)), patients)
    drawn = [(weights @ sums) / (weights @ counts) for weights in _weights(len(sums), seed)]
    without = (sums.sum(axis=0) - sums) / (counts.sum() - counts)
    return _bca(sums.sum(axis=0) / counts.sum(), np.concatenate(drawn), without, level)


def _by_patient(values: npt.NDArray[Any], patients: Sequence[str]) -> Values:
    """Return the sums over the cases of each patient, `(patients, columns)`."""
    names, place = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def _bca(estimate: Values, drawn: Values, without: Values, level: float) -> list[Interval]:
    """Return the intervals of estimates, by those of the draws and without each patient."""
    ends = []
    for value, column, others in zip(estimate, drawn.T, without.T, strict=True):
        draws, left = column[np.isfinite(column)], others[np.isfinite(others)]
        if not len(draws) or len(left) < 2 or not np.isfinite(value):
            ends.append(Interval(np.nan, np.nan))
            continue
        # Equal values differ by rounding.
        tiny = 1e-12 * max(float(np.abs(draws).max()), 1e-300)
        below = (np.mean(draws < value - tiny) + np.mean(draws <= value + tiny)) / 2
        bias = ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
        away = left.mean() - left
        spread = float((away**2).sum())
        acceleration = (away**3).sum() / (6 * spread**1.5) if spread > tiny**2 else 0.0
        shifted = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
        shares = ndtr(bias + shifted / (1 - acceleration * shifted))
        ends.append(Interval(*map(float, np.quantile(draws, shares))))
    return ends


def _weights(patients: int, seed: int) -> Iterator[Values]:
    """Yield how often each patient is drawn in some of the resamples, a row each."""
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWS // patients)
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        draws = random.integers(patients, size=(rows, patients), dtype=np.int32)
        draws += patients * np.arange(rows, dtype=np.int32)[:, np.newaxis]
        counts = np.bincount(draws.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)
