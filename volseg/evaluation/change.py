"""How a number such as a volume changes over the time points of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from volseg.errors import InputError

_DAYS_OF_A_YEAR = 365.25


@dataclass(frozen=True)
class Change:
    """From the first time point of a patient to the last.

    Attributes:
        years: Between them.
        first: Value at the first time point.
        last: Value at the last one.
        absolute: Last minus first.
        percent: Of the first; NaN where that is 0.
        annual: Slope of the least-squares line through all time points, a year; of two points their
            difference a year.
        annual_percent: The slope in percent of the first value; NaN where that is 0.
    """

    years: float
    first: float
    last: float
    absolute: float
    percent: float
    annual: float
    annual_percent: float


def change_over_time(dates: Sequence[date], values: Sequence[float]) -> Change:
    """Return how a value changes; time points may come in any order.

    Args:
        dates: At least two different ones.
        values: At these dates.

    Raises:
        InputError: There are fewer than two time points, two on one day, or values that are not
            finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(dates) != len(numbers) or len(dates) < 2 or not np.isfinite(numbers).all():
        raise InputError(
            f"a change needs finite values at two dates or more, got {len(numbers)} values at "
            f"{len(dates)} dates."
        )
    days = np.array([day.toordinal() for day in dates])
    order = np.argsort(days, kind="stable")
    days, numbers = days[order], numbers[order]
    twice = days[1:][np.diff(days) == 0]
    if len(twice):
        raise InputError(
            f"two time points of a patient are on {date.fromordinal(int(twice[0]))}: give each a "
            "day of its own, or leave one out."
        )
    years = (days - days[0]) / _DAYS_OF_A_YEAR
    first, last = float(numbers[0]), float(numbers[-1])
    centred = years - years.mean()
    slope = float((centred * numbers).sum() / (centred**2).sum())

    def share(value: float) -> float:
        return 100 * value / first if first else float("nan")

    return Change(
        years=float(years[-1]),
        first=first,
        last=last,
        absolute=last - first,
        percent=share(last - first),
        annual=slope,
        annual_percent=share(slope),
    )
