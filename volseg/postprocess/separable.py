"""Filters of a mask that work along one axis after the other, in whole numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled

Voxels = npt.NDArray[np.integer[Any]]
Place = tuple[slice, slice, slice]


def place_of(bounds: Iterable[tuple[int, int]]) -> Place:
    """Return the part of a block between a start and a stop on each axis."""
    planes, rows, columns = (slice(start, stop) for start, stop in bounds)
    return planes, rows, columns


@compiled
def spread(
    source: npt.NDArray[np.int32],
    step: int,
    weights: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Set each value of `out` to the least of the values along one axis plus their weights.

    Args:
        source: Lines `(lines, values)`; neighbours along the axis are `step` apart.
        step: See above.
        weights: Added to the value at each distance.
        out: `(lines, values - step * (weights - 1))`, high numbers before.
    """
    for line in range(out.shape[0]):
        for begin in range(0, out.shape[1], 4096):  # a stretch stays in the cache
            end = min(begin + 4096, out.shape[1])
            for tap in range(weights.size):
                offset = numba.uint64(tap * step)
                for place in range(numba.uint64(begin), numba.uint64(end)):
                    value = np.int32(source[line, place + offset] + weights[tap])
                    out[line, place] = min(out[line, place], value)


@compiled
def blur(
    source: npt.NDArray[np.int32],
    step: int,
    weights: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Add to each value of `out` the values along one axis times their weights.

    Args:
        source: Lines `(lines, values)`; neighbours along the axis are `step` apart.
        step: See above.
        weights: Weight at each distance.
        out: `(lines, values - step * (weights - 1))`, zero before.
    """
    for line in range(out.shape[0]):
        for begin in range(0, out.shape[1], 4096):
            end = min(begin + 4096, out.shape[1])
            for tap in range(weights.size):
                offset = numba.uint64(tap * step)
                for place in range(numba.uint64(begin), numba.uint64(end)):
                    out[line, place] += source[line, place + offset] * weights[tap]


def along_axes(
    kernel: Any,
    mask: npt.NDArray[np.bool_],
    weights: Sequence[npt.NDArray[np.int32]],
    *,
    inside: int,
    outside: int,
) -> npt.NDArray[np.int32]:
    """Run `spread` or `blur` along planes, rows and columns, where the mask has any effect.

    Args:
        kernel: The loop along one axis.
        mask: A block with a margin; the result lacks the margin.
        weights: The weights of each axis, twice its margin and one.
        inside: Value of voxels in the mask.
        outside: Value of the others, and of the result where it looks at others only.
    """
    margins = [taps.size // 2 for taps in weights]
    shape = [length - 2 * n for length, n in zip(mask.shape, margins, strict=True)]
    result = np.full(shape, outside, dtype=np.int32)
    box = bounding_box(mask)
    if box is not None:
        # A voxel at an index of the mask has an effect from that index less twice the margin.
        place = place_of(
            (max(0, cut.start - 2 * n), min(cut.stop, length))
            for cut, n, length in zip(box, margins, shape, strict=True)
        )
        source = place_of(
            (cut.start, cut.stop + 2 * n) for cut, n in zip(place, margins, strict=True)
        )
        values = np.where(mask[source], np.int32(inside), np.int32(outside))
        result[place] = _run_along_axes(kernel, values, weights, outside)
    return result


def bounding_box(mask: npt.NDArray[np.bool_]) -> Place | None:
    """Return the smallest part of a block that holds a mask, None where that is empty.

    Args:
        mask: ``(planes, rows, columns)``.
    """
    bounds = np.zeros((3, 2), dtype=np.int64)
    if not _find_bounds(np.ascontiguousarray(mask), bounds):
        return None
    return place_of((start, stop) for start, stop in bounds.tolist())


@compiled
def _find_bounds(mask, bounds):  # type: ignore[no-untyped-def]
    planes, rows, columns = mask.shape
    for axis in range(3):
        bounds[axis, 0], bounds[axis, 1] = mask.shape[axis], 0
    for plane in range(planes):
        for row in range(rows):
            line = mask[plane, row]
            first = 0
            while first < columns and not line[first]:
                first += 1
            if first < columns:
                last = columns
                while not line[last - 1]:
                    last -= 1
                bounds[0, 0], bounds[0, 1] = min(bounds[0, 0], plane), plane + 1
                bounds[1, 0], bounds[1, 1] = min(bounds[1, 0], row), max(bounds[1, 1], row + 1)
                bounds[2, 0], bounds[2, 1] = min(bounds[2, 0], first), max(bounds[2, 1], last)
    return bounds[0, 1] > 0


def _run_along_axes(
    kernel: Any,
    source: npt.NDArray[np.int32],
    weights: Sequence[npt.NDArray[np.int32]],
    initial: int,
) -> npt.NDArray[np.int32]:
    for axis, taps in enumerate(weights):
        shape = list(source.shape)
        shape[axis] -= taps.size - 1
        out = np.full(shape, initial, dtype=np.int32)
        lines = math.prod(shape[:axis])
        step = math.prod(shape[axis + 1 :])
        kernel(source.reshape(lines, -1), step, taps, out.reshape(lines, -1))
        source = out
    return source
