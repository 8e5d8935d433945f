"""An image at the voxels of any other grid, turned and sheared ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import Grid, index_mapping

_PLANES = 16  # at a time


def resampled(
    values: npt.NDArray[Any], grid: Grid, target: Grid
) -> tuple[npt.NDArray[np.float32], float]:
    """Return values (channels, *grid.shape) at the voxels of another grid, and how many it has.

    They are interpolated linearly. Voxels of the target beyond the edges of the grid take the
    smallest value of their channel.

    Returns:
        float32 (channels, *target.shape), and the share of the target, from 0 to 1, that the grid
        covers.
    """
    mapping = index_mapping(grid, target).matrix
    linear, offset = mapping[:-1, :-1], mapping[:-1, -1]
    found = np.empty((len(values), *target.shape), np.float32)
    covered = 0
    for start in range(0, target.shape[0], _PLANES):
        stop = min(start + _PLANES, target.shape[0])
        sides = (stop - start, *target.shape[1:])
        begin = offset + linear[:, 0] * start
        inside = _inside(linear, begin, sides, grid.shape)
        covered += int(inside.sum())
        for channel, result in zip(values, found, strict=True):
            # To the nearest voxel within half a voxel of the edge.
            part = ndimage.affine_transform(
                channel.astype(np.float32, copy=False),
                linear,
                offset=begin,
                output_shape=sides,
                order=1,
                mode="nearest",
            )
            result[start:stop] = np.where(inside, part, channel.min())
    return found, covered / np.prod(target.shape)


def _inside(
    linear: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    sides: tuple[int, ...],
    shape: tuple[int, ...],
) -> npt.NDArray[np.bool_]:
    """Return which voxels of a block of these sides lie between the edges of a grid."""
    inside = np.ones(sides, np.bool_)
    for axis, side in enumerate(shape):
        place = np.full([1] * len(sides), offset[axis])
        for other, number in enumerate(sides):
            step = linear[axis, other] * np.arange(number)
            place = place + step.reshape([-1 if other == one else 1 for one in range(len(sides))])
        inside &= (place >= -0.5) & (place <= side - 0.5)
    return inside
