"""Copying between arrays whose first axis is fastest, as in files, and last axis, as in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# NumPy walks one of the two arrays in steps of a plane; in tiles its cache lines are met again
# before they are lost, which is several times faster.
_TILE = (64, 16)


def copy_in_tiles(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Set all of (..., x, y, z) values, whatever the order of the axes in memory."""
    if source.ndim < 3:
        target[...] = source
        return
    *_, width, height, _ = source.shape
    for x in range(0, width, _TILE[0]):
        for y in range(0, height, _TILE[1]):
            tile = (..., slice(x, x + _TILE[0]), slice(y, y + _TILE[1]), slice(None))
            target[tile] = source[tile]


def first_axis_fastest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (x, y, z) values in the order of files; not copied where they already are."""
    if values.flags.f_contiguous:
        return values
    turned = np.empty(values.shape, values.dtype, order="F")
    copy_in_tiles(turned, values)
    return turned
