"""Where the tiles of a volume lie and how much each of their voxels counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from volseg.errors import InputError


def tile_starts(
    sides: Sequence[int], tile: Sequence[int], overlap: Sequence[float]
) -> list[tuple[int, ...]]:
    """Return the first voxel of every tile, last axis fastest, evenly spread.

    The fewest tiles an axis that overlap at least as asked; the first starts at 0 and the last
    ends at the border, so no tile leaves the volume.

    Args:
        sides: Spatial size of the volume in voxels, each at least the tile's.
        tile: Tile size in voxels.
        overlap: Least share of a tile that the next one covers, in [0, 1), an axis each.

    Raises:
        InputError: An overlap is outside [0, 1) or the tile exceeds the volume.
    """
    axes: list[list[int]] = []
    for side, size, share in zip(sides, tile, overlap, strict=True):
        if not 0 <= share < 1:
            raise InputError(f"overlap must be at least 0 and less than 1, got {share}.")
        if size > side:
            raise InputError(f"the tile ({size} voxels) exceeds the volume ({side} voxels).")
        step = max(1, int(size * (1 - share)))
        count = 1 + math.ceil((side - size) / step)
        span = (side - size) / max(1, count - 1)
        axes.append([round(index * span) for index in range(count)])
    return list(itertools.product(*axes))


def gaussian_weights(tile: Sequence[int], *, sigma_scale: float = 0.125) -> Tensor:
    """Return blending weights of shape ``tile``, largest in the middle, positive everywhere.

    Args:
        tile: Tile size in voxels.
        sigma_scale: Standard deviation as a share of the tile's side (nnU-Net: 1/8).
    """
    weights = torch.ones(tuple(tile), dtype=torch.float32)
    for axis, size in enumerate(tile):
        centred = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        profile = torch.exp(-0.5 * (centred / max(sigma_scale * size, 1e-6)) ** 2)
        # float32 of a far corner must not underflow to zero, or a voxel seen by one tile only
        # would be divided by nothing.
        profile = profile.clamp_min(1e-4).to(torch.float32)
        weights *= profile.reshape([-1 if a == axis else 1 for a in range(len(tile))])
    return weights


def inner_weights(
    weights: Tensor, start: Sequence[int], sides: Sequence[int], margin: Sequence[int]
) -> Tensor:
    """Return ``weights`` with ``margin`` voxels zeroed at each face that is inside the volume.

    What a padded convolution computes near the face of a tile is made from padding, not from the
    voxels beyond. Where that face lies on the border of the volume the whole computation would
    have padded too, so nothing is dropped there.
    """
    if not any(margin):
        return weights
    trimmed = weights.clone()
    for axis, (first, side, drop) in enumerate(zip(start, sides, margin, strict=True)):
        size = weights.shape[axis]
        if first > 0:
            trimmed.narrow(axis, 0, drop).zero_()
        if first + size < side:
            trimmed.narrow(axis, size - drop, drop).zero_()
    return trimmed
