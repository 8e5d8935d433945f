"""The grid a network works on: spacing, and how large images are on it.

After nnU-Net 2 (Isensee et al., Nature Methods 2021): the median spacing of each axis, but a finer
one across slices where these are thick and few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Times as long, or as many: above it slices are thick and few.
_THICK = 3.0
# Percentile of the spacing across thick slices; the median would blur the finer half of the cases.
_FINE_PERCENT = 10


def target_spacing(
    spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]
) -> tuple[float, ...]:
    """Return the spacing of the network's grid.

    Args:
        spacings: Of each case, one number an axis.
        shapes: Of each case, in voxels.
    """
    found = np.asarray(spacings, dtype=float)
    target = np.median(found, axis=0)
    axis = int(np.argmax(target))
    others = np.delete(target, axis)
    sides = np.median(np.asarray(shapes, dtype=float), axis=0)
    thick = target[axis] > _THICK * others.max()
    few = sides[axis] * _THICK < np.delete(sides, axis).min()
    if thick and few:
        # Never finer than the plane.
        target[axis] = max(others.max(), np.percentile(found[:, axis], _FINE_PERCENT))
    return tuple(float(step) for step in target)


def median_shape(
    spacings: Sequence[Sequence[float]],
    shapes: Sequence[Sequence[int]],
    target: Sequence[float],
) -> tuple[float, ...]:
    """Return the median size of the images on a grid, in voxels; halves are possible."""
    resampled: npt.NDArray[np.float64] = np.round(
        np.asarray(spacings, dtype=float) / np.asarray(target) * np.asarray(shapes)
    )
    return tuple(float(side) for side in np.median(np.maximum(resampled, 1), axis=0))
