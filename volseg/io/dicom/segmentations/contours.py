"""Closed contours around a mask, which enclose exactly its pixels, and masks of closed contours.

Contours run along the edges of pixels, so that every pixel centre is half a pixel away from them:
whoever fills them by any rule gets the same mask, and what they enclose has its area. Holes are
joined to the outer contour by a channel of no width (the keyhole technique of DICOM PS3.3
C.8.8.6.3), which programs that add up contours and those that subtract inner ones read alike.

Coordinates are indices of the array, (x, y); pixel centres lie at whole numbers.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.io.dicom.segmentations.contour_tracing import follow_outline, trace_outlines

Points = npt.NDArray[np.float64]
_Corners = npt.NDArray[np.int32]
_Numbers = npt.NDArray[np.int64]


def mask_contours(mask: npt.NDArray[Any]) -> list[Points]:
    """Return the closed contours of a mask, one for each piece whose pixels share sides.

    Args:
        mask: truth of each pixel, `(x, y)`.

    Returns:
        `(points, 2)` each, the first point not repeated at the end. A contour has its piece on the
        left where x points right and y points up.
    """
    inside = np.pad(np.asarray(mask, dtype=np.bool_), 1)
    edges = np.count_nonzero(inside[1:] != inside[:-1]) + np.count_nonzero(
        inside[:, 1:] != inside[:, :-1]
    )
    corners = np.empty((edges, 2), np.int32)
    starts = np.empty(edges + 1, np.int64)
    count = trace_outlines(inside, corners, starts)
    if not count:
        return []
    bounds = starts[: count + 1]
    following = np.arange(1, edges + 1)
    following[bounds[1:] - 1] = bounds[:-1]
    turns_left = np.add.reduceat(_turns(corners, following), bounds[:-1]) > 0
    holes = [
        int(start + np.argmin(corners[start:end, 0]))
        for start, end in itertools.compress(itertools.pairwise(bounds), ~turns_left)
    ]
    corners, following = _with_channels(corners, following, np.array(holes, np.int64))
    path = np.empty(len(corners), np.int64)
    contours = []
    for start in bounds[:-1][turns_left]:
        length = follow_outline(following, start, path)
        # Of the mask with its border, corner (1, 1) is the outermost one of pixel (0, 0).
        contours.append(_without_straight_points(corners[path[:length]]) - 1.5)
    return contours


def contours_mask(contours: list[Points], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the mask of the pixels whose centres lie inside an odd number of contours.

    Contours inside others are holes, as with DICOM's CLOSEDPLANAR_XOR. Centres exactly on a contour
    belong to it on its sides of lower x and y, so that neighbours share no pixel.

    Args:
        contours: `(points, 2)` each, closed; the first point may be repeated at the end.
        shape: of the mask, (x, y) in pixels; what lies outside is cut off.
    """
    # Along each line of centres, the mask changes at the first centre that is not before the
    # contour. A last column takes the changes past the end.
    changes = np.zeros((shape[0] + 1, shape[1]), np.int64)
    for contour in contours:
        here, there = contour, np.roll(contour, -1, axis=0)
        low = np.clip(np.ceil(np.minimum(here[:, 1], there[:, 1])), 0, shape[1]).astype(np.int64)
        high = np.clip(np.ceil(np.maximum(here[:, 1], there[:, 1])), 0, shape[1]).astype(np.int64)
        crossed = high - low
        edge = np.repeat(np.arange(len(contour)), crossed)
        lines = np.arange(crossed.sum()) - np.repeat(np.cumsum(crossed) - crossed, crossed)
        lines += low[edge]
        along = (lines - here[edge, 1]) / (there[edge, 1] - here[edge, 1])
        at = here[edge, 0] + along * (there[edge, 0] - here[edge, 0])
        first = np.clip(np.ceil(at), 0, shape[0]).astype(np.int64)
        np.add.at(changes, (first, lines), 1)
    odd: npt.NDArray[np.bool_] = np.cumsum(changes, axis=0)[:-1] % 2 == 1
    return odd


def _turns(corners: _Corners, following: _Numbers) -> _Numbers:
    """Return twice the area between each edge and the origin; it adds up to that of an outline."""
    x, y = corners[:, 0].astype(np.int64), corners[:, 1].astype(np.int64)
    return np.asarray(x * y[following] - x[following] * y)


def _with_channels(
    corners: _Corners, following: _Numbers, holes: _Numbers
) -> tuple[_Corners, _Numbers]:
    """Join outlines of holes, by their leftmost corners, to what lies left of them.

    On the line of that corner the pixels left of it are in the mask on both sides, so the nearest
    corner at lower x is on the outline of the same piece, or on a hole of it that begins at lower x
    and is joined likewise. The channel doubles the corners at its ends.

    Returns:
        All corners, and the number of the one that follows each.
    """
    line = corners[:, 1].astype(np.int64) * (int(corners[:, 0].max()) + 1) + corners[:, 0]
    order = np.argsort(line, kind="stable")
    nearest = order[np.searchsorted(line[order], line[holes]) - 1]
    following = np.concatenate([following, np.empty(2 * len(holes), np.int64)])
    for channel, (hole, before) in enumerate(zip(holes, nearest, strict=True)):
        entry = len(corners) + channel
        back = entry + len(holes)
        following[entry], following[back] = following[hole], following[before]
        following[before], following[hole] = entry, back
    return np.concatenate([corners, corners[holes], corners[nearest]]), following


def _without_straight_points(outline: _Corners) -> Points:
    """Leave out the points at which a contour goes straight on, but not where it turns back."""
    arriving = outline - np.roll(outline, 1, axis=0)
    leaving = np.roll(outline, -1, axis=0) - outline
    straight = np.all(np.sign(arriving) == np.sign(leaving), axis=1)
    return np.asarray(outline[~straight], dtype=np.float64)
