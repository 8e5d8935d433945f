"""Compiled loops over logits, each over a range of rows: their winners and their probabilities.

Rows are whole in every loop, and a row's values do not depend on which rows are computed with it:
results are the same, bit for bit, for any number of threads and any slab size.

Probabilities are held class last, ``(planes, rows, voxels, classes)`` in one flat array, so that
the innermost loops run over the classes of a voxel. Winners are numbers, not labels: the class
with the largest logit, the first of equals; or, for regions, one more than the last region whose
logit is positive, 0 if none is. A threshold other than one half moves both: the first class, or the
absence of a region, then has a lead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled, inlined

Floats = npt.NDArray[np.float32]
Winners = npt.NDArray[np.uint16]

MOST_WINNERS = 65535

_u = numba.uint64  # unsigned indices need no test for negative ones, so loops vectorise


@inlined
def _exponential(x: Any) -> Any:
    """Return e**x for x <= 0, within 3e-7 relative; written so that loops over it vectorise."""
    # Cody and Waite's reduction x = n log(2) + r with |r| <= log(2) / 2, then the Taylor series.
    # Added to 1.5 * 2**23 a float32 is rounded to an integer, which its last bits then are.
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    shifted = x * np.float32(1.4426950408889634) + np.float32(12582912.0)
    n = shifted - np.float32(12582912.0)
    r = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    p = np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    power = np.int32(np.int32(np.float32(shifted).view(np.int32) << np.int32(23)) + 0x3F800000)
    return p * np.int32(power).view(np.float32)


@compiled
def winner_rows(
    winners: Winners,
    logits: Floats,
    strides: tuple[int, int, int],
    height: int,
    width: int,
    classes: int,
    regions: bool,
    lead: Any,
    first: int,
    last: int,
) -> None:
    """Find the winner of each voxel of rows ``first`` to ``last`` of (planes, height).

    Args:
        winners: Flat (planes, height, width), written.
        logits: Flat; class, plane and row are ``strides`` apart, voxels follow each other.
        strides: Of class, plane and row.
        height: Rows of a plane.
        width: Voxels of a row.
        classes: Classes or regions.
        regions: Whether each is a yes or no of its own.
        lead: What the logit of a region must exceed, or that of the others the first class's by.
        first: First row.
        last: One past the last row.
    """
    per_class, per_plane, per_row = _u(strides[0]), _u(strides[1]), _u(strides[2])
    best = np.empty(width, np.float32)
    which = np.empty(width, np.uint32)
    for row in range(_u(first), _u(last)):
        base = row // _u(height) * per_plane + row % _u(height) * per_row
        for x in range(_u(width)):
            which[x] = 0
            best[x] = logits[base + x] + lead
        if regions:
            for c in range(_u(classes)):
                start = base + c * per_class
                for x in range(_u(width)):
                    which[x] = c + _u(1) if logits[start + x] > lead else which[x]
        else:
            for c in range(_u(1), _u(classes)):
                start = base + c * per_class
                for x in range(_u(width)):
                    value = logits[start + x]
                    which[x] = c if value > best[x] else which[x]
                    best[x] = value if value > best[x] else best[x]
        for x in range(_u(width)):
            winners[row * _u(width) + x] = which[x]


@compiled
def probability_rows(
    probabilities: Floats,
    logits: Floats,
    strides: tuple[int, int, int],
    height: int,
    width: int,
    classes: int,
    regions: bool,
    first: int,
    last: int,
) -> None:
    """Turn logits into probabilities, class last: softmax, or sigmoid of regions.

    Arguments as in `winner_rows`.
    """
    per_class, per_plane, per_row = _u(strides[0]), _u(strides[1]), _u(strides[2])
    best = np.empty(width, np.float32)
    total = np.empty(width, np.float32)
    line = np.empty(classes * width, np.float32)
    one = np.float32(1)
    for row in range(_u(first), _u(last)):
        base = row // _u(height) * per_plane + row % _u(height) * per_row
        for x in range(_u(width)):
            best[x] = logits[base + x]
            total[x] = one if regions else np.float32(0)
        if regions:
            for c in range(_u(classes)):
                start, place = base + c * per_class, c * _u(width)
                for x in range(_u(width)):
                    value = logits[start + x]
                    e = _exponential(-abs(value))
                    line[place + x] = (one if value > np.float32(0) else e) / (one + e)
        else:
            for c in range(_u(1), _u(classes)):
                start = base + c * per_class
                for x in range(_u(width)):
                    value = logits[start + x]
                    best[x] = value if value > best[x] else best[x]
            for c in range(_u(classes)):
                start, place = base + c * per_class, c * _u(width)
                for x in range(_u(width)):
                    e = _exponential(logits[start + x] - best[x])
                    line[place + x] = e
                    total[x] += e
        for x in range(_u(width)):
            total[x] = one / total[x]
        for x in range(_u(width)):
            place = (row * _u(width) + x) * _u(classes)
            for c in range(_u(classes)):
                probabilities[place + c] = line[c * _u(width) + x] * total[x]
