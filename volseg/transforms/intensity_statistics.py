"""Statistics of intensities, exact whatever parts they arrive in: regions, moments, percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volseg.errors import InputError, UnknownNameError
from volseg.transforms.compiled_statistics import add_moments, count_lower, count_upper
from volseg.transforms.tally import Fit, Inside, Tally

REGIONS = ("whole", "nonzero", "above_mean", "mask")

# Distinct values kept exactly; every integer type of a scanner has far fewer.
_MAX_DISTINCT = 2**20
_HALF = 2**16
# Upper halves of the keys of finite values; infinities and NaN lie beyond on both sides.
_FINITE_KEYS = slice(0x0080, 0xFF80)


def require_region(region: str) -> str:
    """Return the name of a region.

    Raises:
        UnknownNameError: There is no such region.
    """
    if region not in REGIONS:
        raise UnknownNameError("region", str(region), REGIONS)
    return region


def require_finite(finite: bool) -> None:
    """Check that values are finite.

    Raises:
        InputError: They are not.
    """
    if not finite:
        raise InputError(
            "the image holds values that are not finite (NaN or infinity): repair the file."
        )


def region_of(region: str, mask: Tensor | None = None) -> Fit[Inside]:
    """Find which values of a channel count.

    Args:
        region: ``whole``; ``nonzero`` (images whose background was set to 0); ``above_mean``
            (images with a dark, noisy background), which takes a pass; ``mask``.
        mask: Voxels of the region ``mask``, of an image in one part.

    Raises:
        InputError: The region is ``mask`` and no mask is given.
    """
    if require_region(region) == "whole":
        return Inside()
    if region == "nonzero":
        return Inside(without=0.0)
    if region == "above_mean":
        mean, _ = yield from mean_and_std(Inside())
        return Inside(above=_float32_up_to(mean))
    if mask is None:
        raise InputError("the region is 'mask', but no mask is given: name its key (mask_key).")
    return Inside(mask=mask)


def mean_and_std(inside: Inside) -> Fit[tuple[float, float]]:
    """Find mean and standard deviation (of the population), in one pass.

    Mean and variance are those of the values as rational numbers, rounded once.

    Raises:
        InputError: No value counts, or some are not finite.
    """
    tally = _moments(inside)
    yield tally
    require_finite(tally.totals[255, 1] == 0)
    _require_some(int(tally.totals[255, 0]))
    return _mean_and_std(tally)


def percentiles(percents: Sequence[float], inside: Inside) -> Fit[list[float]]:
    """Find percentiles, in two passes and bounded memory.

    They equal those of ``numpy.percentile`` (method ``linear``) of the values in double precision.

    Args:
        percents: Between 0 and 100.
        inside: Which values count.

    Raises:
        InputError: No value counts, or some are not finite.
    """
    # A radix sort of the ranks asked for: by the upper half of the keys, then by the lower one.
    upper = Tally(count_upper, (_HALF,), inside)
    yield upper
    ends = upper.totals.cumsum()
    count = int(ends[-1])
    require_finite(int(upper.totals[_FINITE_KEYS].sum()) == count)
    _require_some(count)
    places = [percent / 100 * (count - 1) for percent in percents]
    ranks = sorted({end for place in places for end in (math.floor(place), math.ceil(place))})
    halves = ends.searchsorted(ranks, side="right")
    wanted = np.unique(halves)
    rows = np.full(_HALF, -1, np.int16)
    rows[wanted] = np.arange(len(wanted))
    lower = Tally(count_lower, (len(wanted), _HALF), inside, rows)
    yield lower
    values = {}
    for rank, half in zip(ranks, halves.tolist(), strict=True):
        before = int(ends[half] - upper.totals[half])
        values[rank] = _float_of(half * _HALF + _place_of(rank - before, lower.totals[rows[half]]))
    return [_between(values[math.floor(p)], values[math.ceil(p)], p % 1) for p in places]


class IntensitySummary:
    """Mean, deviation and percentiles of values that arrive once, in parts, in bounded memory.

    Mean and deviation are exact. So are percentiles of up to 2^20 distinct values; beyond that,
    neighbouring values are joined in pairs, and a percentile is off by a few millionths in rank.
    """

    def __init__(self) -> None:
        self._tally = _moments(Inside())
        self._values: npt.NDArray[np.float64] = np.empty(0)
        self._counts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take in finite values; none is fine."""
        self._tally.add(torch.from_numpy(values))
        distinct, counts = np.unique(values, return_counts=True)
        self._join(distinct.astype(np.float64), counts.astype(np.int64))

    @property
    def count(self) -> int:
        """Number of all values."""
        return int(self._tally.totals[255, 0])

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return _mean_and_std(self._tally)[0]

    @property
    def std(self) -> float:
        """Standard deviation (of the population) of all values."""
        return _mean_and_std(self._tally)[1]

    def percentile(self, percent: float) -> float:
        """Return a percentile of all values, linear between neighbours as numpy's."""
        place = percent / 100 * (self.count - 1)
        last = np.cumsum(self._counts) - 1
        low, high = (
            float(self._values[np.searchsorted(last, rank)])
            for rank in (math.floor(place), math.ceil(place))
        )
        return _between(low, high, place % 1)

    def _join(self, values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> None:
        merged, places = np.unique(np.concatenate([self._values, values]), return_inverse=True)
        total = np.zeros(len(merged), np.int64)
        np.add.at(total, places, np.concatenate([self._counts, counts]))
        while len(merged) > _MAX_DISTINCT:
            pairs = np.arange(0, len(merged), 2)
            weight = np.add.reduceat(total, pairs)
            merged = np.add.reduceat(merged * total, pairs) / weight
            total = weight
        self._values, self._counts = merged, total


def _require_some(count: int) -> None:
    if count == 0:
        raise InputError(
            "no voxel lies in the region that the statistics are taken from: choose another "
            "region, and standardise whole images rather than patches."
        )


def _moments(inside: Inside) -> Tally:
    return Tally(add_moments, (256, 6), inside)


def _mean_and_std(tally: Tally) -> tuple[float, float]:
    """Return both from what `add_moments` counted; Python divides integers with one rounding."""
    count = int(tally.totals[255, 0])
    total = squares = 0  # in units of 2^-174 and 2^-348
    for exponent in np.flatnonzero(tally.totals[:255].any(axis=1)).tolist():
        row = tally.totals[exponent].tolist()
        values, upper, lower = ((row[i] << 32) + row[i + 1] for i in (0, 2, 4))
        total += values << exponent
        squares += ((upper << 48) + lower) << 2 * exponent
    variance = (count * squares - total**2) / (count**2 << 348)
    return total / (count << 174), math.sqrt(variance)


def _place_of(rank: int, counts: npt.NDArray[np.int64]) -> int:
    """Return the first of 2^16 places up to which more than `rank` are counted."""
    blocks = counts.reshape(256, 256)
    ends = blocks.sum(axis=1).cumsum()
    block = int(ends.searchsorted(rank, side="right"))
    before = int(ends[block] - blocks[block].sum())
    return block * 256 + int(blocks[block].cumsum().searchsorted(rank - before, side="right"))


def _float_of(key: int) -> float:
    """Return the float32 that a key of `count_upper` and `count_lower` stands for."""
    bits = key ^ 0x80000000 if key & 0x80000000 else key ^ 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))


def _between(low: float, high: float, share: float) -> float:
    """Return a point between two, from the nearer one, as numpy does."""
    step = high - low
    return low + step * share if share < 0.5 else high - step * (1 - share)


def _float32_up_to(value: float) -> float:
    """Return the largest float32 that is not above a value: the same ones are above both."""
    rounded = np.float32(value)
    return float(rounded if rounded <= value else np.nextafter(rounded, np.float32(-np.inf)))
