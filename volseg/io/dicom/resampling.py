"""Resampling of stacks that are no plain grid: unequal gaps, and slices not along their normal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import Affine, SliceStack

Values = npt.NDArray[Any]

# A slice this near to its place on the grid, in slices, is kept as it is.
_ON_GRID = 0.01


def along_slices(values: Values, stack: SliceStack) -> Values:
    """Return (channels, x, y, slices) values linearly interpolated to even distances.

    Args:
        values: one slice for each of `stack.places`.
        stack: where they lie, and how many slices there shall be.
    """
    resampled = np.empty((*values.shape[:3], stack.size), values.dtype)
    places = np.array(stack.places)
    for target in range(stack.size):
        nearest = int(np.argmin(np.abs(places - target)))
        if abs(places[nearest] - target) <= _ON_GRID:
            resampled[..., target] = values[..., nearest]
            continue
        after = int(np.searchsorted(places, target))
        share = (target - places[after - 1]) / (places[after] - places[after - 1])
        before, behind = (values[..., n].astype(np.float64) for n in (after - 1, after))
        resampled[..., target] = _as_type(before + share * (behind - before), values.dtype)
    return resampled


def upright(values: Values, affine: Affine) -> tuple[Values, Affine]:
    """Return (channels, x, y, slices) values and their affine with slices along their normal.

    Every slice keeps its height and is moved within its plane, by linear interpolation; the grid
    grows to hold all of them, and what no slice covers gets the smallest value of the image.
    """
    across, down, along = affine.matrix[:3, :3].T
    spacing = np.array([np.linalg.norm(across), np.linalg.norm(down)])
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    # In voxels: how far each slice lies from the one below, in its own plane.
    shift = np.array([along @ across, along @ down]) / spacing**2
    count = values.shape[3]
    last = shift * (count - 1)
    start = np.floor(np.minimum(last, 0.0) + 1e-6)
    sides = [values.shape[axis + 1] + math.ceil(abs(last[axis]) - 1e-6) for axis in range(2)]
    moved = np.full((values.shape[0], *sides, count), values.min(), values.dtype)
    for channel in range(values.shape[0]):
        fill = float(values[channel].min())
        for number in range(count):
            plane = ndimage.affine_transform(
                values[channel, :, :, number].astype(np.float64),
                np.ones(2),
                offset=start - shift * number,
                output_shape=tuple(sides),
                order=1,
                cval=fill,
            )
            moved[channel, ..., number] = _as_type(plane, values.dtype)
    matrix = affine.matrix.copy()
    matrix[:3, 3] += across * start[0] + down * start[1]
    matrix[:3, 2] = normal * (along @ normal)
    return moved, Affine(matrix)


def _as_type(values: npt.NDArray[np.float64], kind: np.dtype[Any]) -> Values:
    return (values.round() if kind.kind in "iu" else values).astype(kind)
