"""Images as a coarser acquisition would have given them, on the same grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from torch import Tensor

from volseg.errors import InputError
from volseg.transforms.random_intensity import RandomIntensityTransform


def lower_resolution(image: Tensor, *, factors: Sequence[float]) -> Tensor:
    """Return the image averaged over coarser voxels and interpolated back to its grid.

    A coarse voxel is the mean over its extent, as in a thick slice; back it goes linearly between
    the centres of coarse voxels. The coarse grid covers the field of view exactly.

    Args:
        image: ``(channels, x, y)`` or ``(channels, x, y, z)``.
        factors: Size of a coarse voxel in voxels for each spatial axis, at least 1; rounded so
            that a whole number of them fits.
    """
    for axis, factor in enumerate(factors, start=1):
        size = image.shape[axis]
        coarse = max(1, round(size / factor))
        if coarse >= size:
            continue
        down, up = _averages(size, coarse).to(image), _lines(size, coarse).to(image)
        image = ((image.movedim(axis, -1) @ down.T) @ up.T).movedim(-1, axis)
    return image.contiguous()


class RandLowResolutiond(RandomIntensityTransform):
    """Simulate a low resolution, in all axes or in some (anisotropy): `lower_resolution`.

    Label maps stay as they are: leave them out of the keys.

    Args:
        keys: Images ``(channels, x, y)`` or ``(channels, x, y, z)``.
        prob: Probability to change the images.
        factor: Range that the factor of an axis is drawn from, evenly in its logarithm.
        axis_prob: Probability of each axis to be coarser; where none would be, one is, any of them.
        isotropic: Whether the chosen axes share one factor.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: A range or a probability is none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        *,
        factor: tuple[float, float] = (1.0, 4.0),
        axis_prob: float = 0.5,
        isotropic: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if len(factor) != 2 or not 1 <= factor[0] <= factor[1] < float("inf"):
            raise InputError(f"factor is {factor}; expected two ascending numbers of at least 1.")
        if not 0 <= axis_prob <= 1:
            raise InputError(f"axis_prob is {axis_prob}; expected a probability.")
        self.factor = tuple(factor)
        self.axis_prob = axis_prob
        self.isotropic = isotropic

    def draw(self, spatial_dims: int) -> dict[str, Any]:
        """Return the factor of each axis, 1 for those that stay."""
        low, high = map(math.log, self.factor)
        factors = [math.exp(self.R.uniform(low, high)) for _ in range(spatial_dims)]
        chosen = [self.R.rand() < self.axis_prob for _ in range(spatial_dims)]
        if not any(chosen):
            chosen[self.R.randint(spatial_dims)] = True
        if self.isotropic:
            factors = factors[:1] * spatial_dims
        pairs = zip(factors, chosen, strict=True)
        return {"factors": [factor if coarser else 1.0 for factor, coarser in pairs]}

    def apply(self, image: Tensor, **drawn: Any) -> Tensor:
        """Return the image at the drawn resolution."""
        return lower_resolution(image, **drawn)


def _averages(size: int, coarse: int) -> Tensor:
    """Return (coarse, size): the share of each voxel in the mean of each coarse one."""
    width = size / coarse
    starts = torch.arange(coarse, dtype=torch.float64)[:, None] * width
    voxels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(voxels + 1, starts + width) - torch.maximum(voxels, starts)
    return overlap.clamp(min=0) / width


def _lines(size: int, coarse: int) -> Tensor:
    """Return (size, coarse): linear interpolation between coarse centres, constant beyond."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * coarse / size - 0.5
    places = places.clamp(0, coarse - 1)
    distance = (places[:, None] - torch.arange(coarse, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)
