"""Compiled loops from winners and probabilities to the source grid, each over a range of rows.

Rows are whole, winners are numbers and probabilities are held class last, as in
`volseg.inference.compiled_logits`. Where a winner is the same at both ends of a line, linear
interpolation cannot change it in between: only cells that a boundary crosses are interpolated.

Interpolation goes along the axes of the network's grid in their order, whichever of them the planes
are of: sums are rounded alike, and labels are the same, for every streaming axis.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled, inlined
from volseg.inference.compiled_logits import Floats, Winners

# Of one axis: the plane before each target plane, the one behind, and the share of the latter.
Axis = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]

_MIXED = np.uint16(65535)  # a column between rows and planes of different winners

_u = numba.uint64  # unsigned indices need no test for negative ones, so loops vectorise


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
