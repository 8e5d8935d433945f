"""Statistics of intensities: regions, moments, percentiles, and all three of a whole data set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volseg.errors import InputError, UnknownNameError

REGIONS = ("whole", "nonzero", "above_mean", "mask")

# Distinct values kept exactly; every integer type of a scanner has far fewer.
_MAX_DISTINCT = 2**20


def require_region(region: str) -> str:
    """Return the name of a region.

    Raises:
        UnknownNameError: There is no such region.
    """
    if region not in REGIONS:
        raise UnknownNameError("region", str(region), REGIONS)
    return region


def region_of(image: Tensor, region: str, mask: Tensor | None = None) -> Tensor | None:
    """Return which voxels of one channel count; None stands for all of them.

    Args:
        image: One channel, ``(x, y)`` or ``(x, y, z)``.
        region: ``whole``; ``nonzero`` (images whose background was set to 0); ``above_mean``
            (images with a dark, noisy background); ``mask``.
        mask: Voxels of the region ``mask``.

    Raises:
        InputError: The region is ``mask`` and no mask is given.
    """
    if require_region(region) == "whole":
        return None
    if region == "nonzero":
        return image != 0
    if region == "above_mean":
        return image > image.mean(dtype=torch.float64)
    if mask is None:
        raise InputError("the region is 'mask', but no mask is given: name its key (mask_key).")
    return mask


def values_in(image: Tensor, inside: Tensor | None) -> Tensor:
    """Return the values that count, in one axis.

    Raises:
        InputError: There are none, or some are not finite.
    """
    values = image.reshape(-1) if inside is None else image[inside]
    if values.numel() == 0:
        raise InputError(
            "no voxel lies in the region that the statistics are taken from: choose another "
            "region, and standardise whole images rather than patches."
        )
    if not torch.isfinite(values).all():
        raise InputError(
            "the image holds values that are not finite (NaN or infinity): repair the file."
        )
    return values


def mean_and_std(values: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation (of the population), accumulated in double precision."""
    mean = float(values.mean(dtype=torch.float64))
    variance = float((values - mean).square().mean(dtype=torch.float64))
    return mean, math.sqrt(variance)


def percentiles(values: Tensor, percents: Sequence[float]) -> list[float]:
    """Return percentiles, linear between neighbours as numpy's.

    Args:
        values: One axis, at least one value.
        percents: Between 0 and 100.
    """
    if values.device.type == "cpu":
        # Selection, where sorting would take many times as long.
        found: list[float] = np.percentile(values.numpy(), percents).astype(float).tolist()
        return found
    return _by_sorting(values, percents)


def _by_sorting(values: Tensor, percents: Sequence[float]) -> list[float]:
    """Return percentiles on any device."""
    ordered = values.sort().values
    places = torch.tensor(percents, dtype=torch.float64) / 100 * (len(ordered) - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    low, high = (ordered[index.to(values.device)].double().cpu() for index in (below, above))
    between: list[float] = (low + (places - below) * (high - low)).tolist()
    return between


class IntensitySummary:
    """Mean, deviation and percentiles of values that arrive in parts, in bounded memory.

    Mean and deviation are exact. So are percentiles of up to 2^20 distinct values; beyond that,
    neighbouring values are joined in pairs, and a percentile is off by a few millionths in rank.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._values: npt.NDArray[np.float64] = np.empty(0)
        self._counts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take in values; none is fine."""
        if values.size == 0:
            return
        # Chan, Golub, LeVeque 1979: moments of two sets joined without cancellation.
        mean = float(values.mean(dtype=np.float64))
        difference, total = mean - self._mean, self.count + values.size
        self._squares += float(np.square(np.subtract(values, mean, dtype=np.float64)).sum())
        self._squares += difference**2 * self.count * values.size / total
        self._mean += difference * values.size / total
        self.count = total
        distinct, counts = np.unique(values, return_counts=True)
        self._join(distinct.astype(np.float64), counts.astype(np.int64))

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return self._mean

    @property
    def std(self) -> float:
        """Standard deviation (of the population) of all values."""
        return math.sqrt(self._squares / self.count)

    def percentile(self, percent: float) -> float:
        """Return a percentile of all values, linear between neighbours as numpy's."""
        place = percent / 100 * (self.count - 1)
        last = np.cumsum(self._counts) - 1
        low, high = (
            float(self._values[np.searchsorted(last, rank)])
            for rank in (math.floor(place), math.ceil(place))
        )
        return low + (place - math.floor(place)) * (high - low)

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
