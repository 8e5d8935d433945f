"""Confidence intervals by bootstrap, with the patient as the unit that is drawn.

Cases of one patient are not independent of each other, so that patients are drawn with all of
their cases (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section
3.8). The interval is the bias-corrected and accelerated one of B. Efron, "Better bootstrap
confidence intervals", Journal of the American Statistical Association 82, 1987.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
        intervals = _bca(table[cases][:, columns], owners, level, seed)
        for column, interval in zip(columns, intervals, strict=True):
            found[column] = interval
    return found


def interval_of_mean(values: Sequence[float] | Values, *, level: float, seed: int) -> Interval:
    """Return the interval of the mean of values of one patient each; see `intervals_of_means`."""
    table = np.asarray(values, dtype=np.float64)[:, np.newaxis]
    patients = [str(index) for index in range(len(table))]
    return intervals_of_means(table, patients, level=level, seed=seed)[0]


def _bca(values: Values, patients: Sequence[str], level: float, seed: int) -> list[Interval]:
    names, place = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return [Interval(np.nan, np.nan)] * values.shape[1]
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, place, values)
    counts = np.bincount(place).astype(np.float64)[:, np.newaxis]
    mean = sums.sum(axis=0) / counts.sum()
    drawn = np.concatenate(
        [(weights @ sums) / (weights @ counts) for weights in _weights(len(names), seed)]
    )
    without = (sums.sum(axis=0) - sums) / (counts.sum() - counts)
    # Equal values have no spread but for rounding.
    tiny = 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    below = ((drawn < mean - tiny).mean(axis=0) + (drawn <= mean + tiny).mean(axis=0)) / 2
    bias = ndtri(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
    away = without.mean(axis=0) - without
    spread = (away**2).sum(axis=0)
    acceleration = np.zeros_like(mean)
    np.divide((away**3).sum(axis=0), 6 * spread**1.5, out=acceleration, where=spread > tiny**2)
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + ndtri(share)
        shares = ndtr(bias + shifted / (1 - acceleration * shifted))
        ends.append([np.quantile(column, one) for column, one in zip(drawn.T, shares, strict=True)])
    return [Interval(float(low), float(high)) for low, high in zip(*ends, strict=True)]


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
