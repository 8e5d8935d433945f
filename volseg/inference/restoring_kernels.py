"""Compiled loops of `volseg.inference.restoring`, each over a range of rows.

Rows are whole in every kernel, and a row's values do not depend on which rows are computed
with it: results are the same, bit for bit, for any number of threads and any slab size.

Probabilities are held class last, ``(planes, rows, voxels, classes)`` in one flat array, so that
the innermost loops run over the classes of a voxel. Winners are numbers, not labels: the class
with the largest logit, the first of equals; or, for regions, one more than the last region whose
logit is positive, 0 if none is. A threshold other than one half moves both: the first class, or the
absence of a region, then has a lead. Where a winner is the same at both ends of a line, linear
interpolation cannot change it in between: only cells that a boundary crosses are interpolated.

Interpolation goes along the axes of the network's grid in their order, whichever of them the planes
are of: sums are rounded alike, and labels are the same, for every streaming axis.
"""

# Compiled functions take their arguments by position.
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled, inlined

Floats = npt.NDArray[np.float32]
Winners = npt.NDArray[np.uint16]
# Of one axis: the plane before each target plane, the one behind, and the share of the latter.
Axis = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]

MOST_WINNERS = 65535
_MIXED = np.uint16(65535)  # a column between rows and planes of different winners

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


@compiled
def label_rows(
    labels: Any,
    probabilities: Floats,
    winners: Winners,
    height: int,
    width: int,
    classes: int,
    regions: bool,
    least: Any,
    planes: Axis,
    rows: Axis,
    voxels: Axis,
    turn: int,
    values: Any,
    first: int,
    last: int,
) -> None:
    """Label the voxels of target rows ``first`` to ``last`` of (target planes, target rows).

    Args:
        labels: Flat (target planes, target rows, target voxels), written.
        probabilities: Flat (planes, height, width, classes).
        winners: Flat (planes, height, width).
        height: Rows of a plane.
        width: Voxels of a row.
        classes: Classes or regions.
        regions: Whether each is a yes or no of its own.
        least: What the probability of a region must exceed; of classes, what that of the others
            must be more of than the first one's.
        planes: Where target planes lie.
        rows: Where target rows lie.
        voxels: Where target voxels lie.
        turn: When it is interpolated between planes: before rows (0), before voxels (1), last (2).
        values: Label of each winner.
        first: First target row.
        last: One past the last.
    """
    target_height, target_width = _u(len(rows[0])), _u(len(voxels[0]))
    column = np.empty(width, np.uint16)
    known = np.empty(width, np.bool_)
    line = np.empty(width * classes, np.float32)
    behind = np.empty(width * classes, np.float32)
    point = np.empty(classes, np.float32)
    for flat in range(_u(first), _u(last)):
        plane, row = flat // target_height, flat % target_height
        corners = _corners(planes, rows, plane, row, height, width)
        for x in range(_u(width)):
            winner = winners[corners[0] + x]
            same = (winners[corners[1] + x] == winner) & (winners[corners[2] + x] == winner)
            same &= winners[corners[3] + x] == winner
            column[x] = winner if same else _MIXED
            known[x] = False
        for x in range(target_width):
            lower, upper = _u(voxels[0][x]), _u(voxels[1][x])
            winner = column[lower]
            if winner == _MIXED or column[upper] != winner:
                for place in (lower, upper):
                    if not known[place]:
                        known[place] = True
                        _interpolate(
                            probabilities, corners, _u(classes), planes[2][plane], rows[2][row],
                            turn, place, _u(1), line, behind,
                        )  # fmt: skip
                share = voxels[2][x]
                low, high = lower * _u(classes), upper * _u(classes)
                for c in range(_u(classes)):
                    point[c] = line[low + c] + share * (line[high + c] - line[low + c])
                if turn == 2:
                    for c in range(_u(classes)):
                        far = behind[low + c] + share * (behind[high + c] - behind[low + c])
                        point[c] += planes[2][plane] * (far - point[c])
                winner = _winner(point, classes, regions, least)
            labels[flat * target_width + x] = values[winner]


@compiled
def interpolated_rows(
    found: Floats,
    held: Floats,
    height: int,
    width: int,
    classes: int,
    planes: Axis,
    rows: Axis,
    voxels: Axis,
    turn: int,
    first: int,
    last: int,
) -> None:
    """Interpolate all classes of target rows; ``found`` is flat and class first.

    Other arguments as in `label_rows`.
    """
    target_height, target_width = _u(len(rows[0])), _u(len(voxels[0]))
    per_class = _u(len(planes[0])) * target_height * target_width
    line = np.empty(width * classes, np.float32)
    behind = np.empty(width * classes, np.float32)
    for flat in range(_u(first), _u(last)):
        plane, row = flat // target_height, flat % target_height
        corners = _corners(planes, rows, plane, row, height, width)
        along = planes[2][plane]
        _interpolate(
            held, corners, _u(classes), along, rows[2][row],
            turn, _u(0), _u(width), line, behind,
        )  # fmt: skip
        for x in range(target_width):
            low, high = _u(voxels[0][x]) * _u(classes), _u(voxels[1][x]) * _u(classes)
            share = voxels[2][x]
            place = flat * target_width + x
            if turn == 2:
                for c in range(_u(classes)):
                    near = line[low + c] + share * (line[high + c] - line[low + c])
                    far = behind[low + c] + share * (behind[high + c] - behind[low + c])
                    found[c * per_class + place] = near + along * (far - near)
            else:
                for c in range(_u(classes)):
                    near = line[low + c] + share * (line[high + c] - line[low + c])
                    found[c * per_class + place] = near


@compiled
def tempered_rows(
    probabilities: Floats,
    width: int,
    classes: int,
    regions: bool,
    sharpness: float,
    first: int,
    last: int,
) -> None:
    """Raise the probabilities of each voxel to a power and make them sum to one, in place.

    ``probabilities`` is flat and class first; of regions yes and no sum to one.
    """
    per_class = _u(len(probabilities) // classes)
    for place in range(_u(first) * _u(width), _u(last) * _u(width)):
        total = 0.0
        for c in range(_u(classes)):
            total += float(probabilities[c * per_class + place]) ** sharpness
        for c in range(_u(classes)):
            p = float(probabilities[c * per_class + place])
            raised = p**sharpness
            whole = raised + max(0.0, 1.0 - p) ** sharpness if regions else total
            probabilities[c * per_class + place] = raised / whole


@compiled
def entropy_rows(
    found: Floats,
    probabilities: Floats,
    width: int,
    classes: int,
    regions: bool,
    first: int,
    last: int,
) -> None:
    """Return the entropy of each voxel, in [0, 1]; ``probabilities`` is flat and class first.

    As `volseg.inference.uncertainty` defines it.
    """
    per_class = _u(len(found))
    share = 1.0 / (classes * np.log(2.0)) if regions else 1.0 / np.log(max(2.0, classes))
    for place in range(_u(first) * _u(width), _u(last) * _u(width)):
        total = 0.0
        for c in range(_u(classes)):
            p = float(probabilities[c * per_class + place])
            if p > 0:
                total -= p * np.log(p)
            if regions and p < 1:
                total -= (1 - p) * np.log(1 - p)
        found[place] = min(1.0, total * share)


@inlined
def _corners(planes: Any, rows: Any, plane: Any, row: Any, height: Any, width: Any) -> Any:
    """Return where the four rows around a target row begin, counted in voxels."""
    before, behind = _u(planes[0][plane]) * _u(height), _u(planes[1][plane]) * _u(height)
    lower, upper = _u(rows[0][row]), _u(rows[1][row])
    return (
        (before + lower) * _u(width),
        (behind + lower) * _u(width),
        (before + upper) * _u(width),
        (behind + upper) * _u(width),
    )


@inlined
def _interpolate(
    held: Any,
    corners: Any,
    classes: Any,
    along: Any,
    across: Any,
    turn: Any,
    start: Any,
    count: Any,
    line: Any,
    behind: Any,
) -> None:
    """Fill ``count`` voxels of a line from ``start``, interpolated between planes and rows.

    Where it is the turn of the planes only after the voxels, the lines of the plane before and the
    one behind, each between its rows.
    """
    first, second = corners[0] * classes, corners[1] * classes
    third, fourth = corners[2] * classes, corners[3] * classes
    places = range(start * classes, (start + count) * classes)
    if turn == 0:
        for i in places:
            low = held[first + i] + along * (held[second + i] - held[first + i])
            high = held[third + i] + along * (held[fourth + i] - held[third + i])
            line[i] = low + across * (high - low)
    elif turn == 1:
        for i in places:
            low = held[first + i] + across * (held[third + i] - held[first + i])
            high = held[second + i] + across * (held[fourth + i] - held[second + i])
            line[i] = low + along * (high - low)
    else:
        for i in places:
            line[i] = held[first + i] + across * (held[third + i] - held[first + i])
            behind[i] = held[second + i] + across * (held[fourth + i] - held[second + i])


@inlined
def _winner(point: Any, classes: Any, regions: Any, least: Any) -> Any:
    """Return the winner among the probabilities of a voxel."""
    winner = np.uint16(0)
    if regions:
        for c in range(_u(classes)):
            if point[c] > least:
                winner = np.uint16(c + _u(1))
    else:
        best = point[0] * least
        for c in range(_u(1), _u(classes)):
            if point[c] > best:
                best = point[c]
                winner = np.uint16(c)
    return winner
