"""Axes of charts: where a value lies in pixels, and round numbers to label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_FINEST = 1e-9


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: Value at its start.
        high: Value at its end.
        start: Pixel at its start.
        end: Pixel at its end; below the start for an axis that goes up.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value, rounded so that a page stays small."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, number: int = 5) -> list[tuple[float, str]]:
        """Return about so many pixels with the round number that lies there."""
        step = _step(self.high - self.low, number)
        decimals = max(0, -math.floor(math.log10(step) + _FINEST))
        first = math.ceil(self.low / step - _FINEST)
        last = math.floor(self.high / step + _FINEST)
        return [
            (self.at(index * step), f"{index * step:.{decimals}f}")
            for index in range(first, last + 1)
        ]


def axis_of(
    values: Iterable[float],
    *,
    start: float,
    end: float,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """Return an axis that holds values, with a little room, from one round number to another.

    Args:
        values: That are to lie on it; those that are not finite do not count.
        start: Pixel at its start.
        end: Pixel at its end.
        within: Values beyond which there can be none, such as 0 and 1 of a share.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low < _FINEST * max(1, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = _step(high - low, 5) / 2
    low = max(within[0], math.floor(low / step - 0.3) * step)
    high = min(within[1], math.ceil(high / step + 0.3) * step)
    if low >= high:  # all values lie at the end of what there can be
        low, high = (high - 1, high) if math.isfinite(within[1]) else (low, low + 1)
    return Axis(low, high, start, end)


def _step(span: float, number: int) -> float:
    """Return 1, 2 or 5 times a power of ten, of which about so many make the span."""
    rough = max(span, _FINEST) / number
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if rough <= factor * power), 10 * power)
