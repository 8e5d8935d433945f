"""The ways to standardise intensities, and their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from volseg.errors import InputError
from volseg.transforms.intensity_statistics import (
    mean_and_std,
    percentiles,
    region_of,
    require_region,
)
from volseg.transforms.landmarks import increasing, landmark_map
from volseg.transforms.tally import Fit

# Maps each voxel on its own, so any part of an image can be given; float32 in and out.
VoxelMap = Callable[[Tensor], Tensor]

# Beyond this, and below its inverse, products of single precision come near its ends.
_WIDE = 1e30


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1 in a region.

    Attributes:
        region: Where both are taken from: ``whole``, ``nonzero``, ``above_mean`` or ``mask``.
        outside: Value for the voxels outside of the region; they are mapped like all the others
            without it.
    """

    name: ClassVar[str] = "zscore"
    region: str = "whole"
    outside: float | None = None

    def __post_init__(self) -> None:
        require_region(self.region)

    def fit(self, mask: Tensor | None = None) -> Fit[VoxelMap]:
        """Find what standardises one channel."""
        inside = yield from region_of(self.region, mask)
        mean, std = yield from mean_and_std(inside)
        if std <= 1e-6 * abs(mean) or std == 0:
            raise _constant(mean)
        line = partial(_on_line, start=mean, slope=1 / std, end=0.0)
        outside = self.outside
        if outside is None:
            return line
        return lambda image: torch.where(inside.voxels(image), line(image), outside)


@dataclass(frozen=True)
class Percentile:
    """Two percentiles of a region become the ends of a range.

    Attributes:
        lower: Percentile that becomes the first end.
        upper: Percentile that becomes the second end.
        output_range: The two ends.
        clip: Whether values beyond become the ends.
        region: Where the percentiles are taken from, see `ZScore`.
    """

    name: ClassVar[str] = "percentile"
    lower: float = 0.5
    upper: float = 99.5
    output_range: tuple[float, float] = (0.0, 1.0)
    clip: bool = True
    region: str = "whole"

    def __post_init__(self) -> None:
        require_region(self.region)
        _require(0 <= self.lower < self.upper <= 100, self, "0 <= lower < upper <= 100")
        _require(_is_range(self.output_range), self, "an output_range of two ascending numbers")

    def fit(self, mask: Tensor | None = None) -> Fit[VoxelMap]:
        """Find what standardises one channel."""
        inside = yield from region_of(self.region, mask)
        low, high = yield from percentiles((self.lower, self.upper), inside)
        if high <= low:
            raise _constant(low)
        return partial(_in_range, source=(low, high), target=self.output_range, clip=self.clip)


@dataclass(frozen=True)
class Window:
    """A fixed window becomes a range, and values beyond become its ends: for CT.

    Attributes:
        lower: Value that becomes the first end, in CT in Hounsfield units.
        upper: Value that becomes the second end.
        output_range: The two ends.
    """

    name: ClassVar[str] = "window"
    lower: float
    upper: float
    output_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        _require(-math.inf < self.lower < self.upper < math.inf, self, "finite lower < upper")
        _require(_is_range(self.output_range), self, "an output_range of two ascending numbers")

    def fit(self, mask: Tensor | None = None) -> Fit[VoxelMap]:  # noqa: ARG002
        """Return what standardises one channel; no pass is needed."""
        yield from ()
        return partial(
            _in_range, source=(self.lower, self.upper), target=self.output_range, clip=True
        )


@dataclass(frozen=True)
class Foreground:
    """Clipped and z-scored with numbers of the foreground of the training set: for CT.

    Isensee et al., "nnU-Net", Nature Methods 18, 2021: 0.5 and 99.5 percentile, mean and standard
    deviation of all labelled voxels.

    Attributes:
        lower: Values below become this one.
        upper: Values above become this one.
        mean: Becomes 0.
        std: Becomes 1.
    """

    name: ClassVar[str] = "foreground"
    lower: float
    upper: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        _require(self.lower < self.upper and self.std > 0, self, "lower < upper and std above 0")

    def fit(self, mask: Tensor | None = None) -> Fit[VoxelMap]:  # noqa: ARG002
        """Return what standardises one channel; no pass is needed."""
        yield from ()
        line = partial(_on_line, start=self.mean, slope=1 / self.std, end=0.0)
        return lambda image: line(image.clamp(self.lower, self.upper))


@dataclass(frozen=True)
class Nyul:
    """Percentiles of the image are moved to where they lie on average in the training set.

    Attributes:
        percents: Which percentiles.
        landmarks: Where they lie on the standard scale.
        region: Where the percentiles are taken from, see `ZScore`; as in fitting.
    """

    name: ClassVar[str] = "nyul"
    percents: tuple[float, ...]
    landmarks: tuple[float, ...]
    region: str = "nonzero"

    def __post_init__(self) -> None:
        require_region(self.region)
        percents, landmarks = self.percents, self.landmarks
        _require(
            2 <= len(percents) == len(landmarks)
            and increasing((-1, *percents, 101))
            and increasing(landmarks)
            and percents[0] >= 0
            and percents[-1] <= 100,
            self,
            "as many percents (0 to 100) as landmarks, at least two, both ascending",
        )

    def fit(self, mask: Tensor | None = None) -> Fit[VoxelMap]:
        """Find what standardises one channel."""
        inside = yield from region_of(self.region, mask)
        found = yield from percentiles(self.percents, inside)
        return landmark_map(found, self.landmarks)


Method = ZScore | Percentile | Window | Foreground | Nyul

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (ZScore, Percentile, Window, Foreground, Nyul)
}


def _on_line(image: Tensor, start: float, slope: float, end: float) -> Tensor:
    """Return ``(image - start) * slope + end``.

    Products, as a quotient by a number is one on a GPU, but not on a CPU.
    """
    if not (abs(start) < _WIDE and 1 / _WIDE < slope < _WIDE):
        # On the CPU, as some devices (MPS) have no 64-bit numbers.
        return ((image.cpu().double() - start) * slope + end).float().to(image.device)
    # The difference of float32 values that are close is exact; what rounding the start left over
    # is made up for at the end.
    near = float(np.float32(start))
    return (image - near).mul_(slope).add_(end + (near - start) * slope)


def _in_range(
    image: Tensor, source: tuple[float, float], target: tuple[float, float], *, clip: bool
) -> Tensor:
    """Return the image with one range of values mapped to another, and clipped to it if asked."""
    slope = (target[1] - target[0]) / (source[1] - source[0])
    result = _on_line(image, source[0], slope, target[0])
    return result.clamp_(*target) if clip else result


def _is_range(values: Sequence[float]) -> bool:
    return len(values) == 2 and values[0] < values[1]


def _require(fine: bool, found: Method, expected: str) -> None:
    if not fine:
        raise InputError(f"the standardisation is {found}; expected {expected}.")


def _constant(value: float) -> InputError:
    return InputError(
        f"the image is constant ({value:g}) in the region that the statistics are taken from, so "
        "its intensities cannot be standardised: leave it out or choose another region."
    )
