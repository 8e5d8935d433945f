"""Closed contours around a mask, which enclose exactly its pixels, and masks of closed contours.

Contours run along the edges of pixels, so that every pixel centre is half a pixel away from them:
whoever fills them by any rule gets the same mask, and what they enclose has its area. Holes are
joined to the outer contour by a channel of no width (the keyhole technique of DICOM PS3.3
C.8.8.6.3), which programs that add up contours and those that subtract inner ones read alike.

Coordinates are indices of the array, (x, y); pixel centres lie at whole numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.io.dicom.segmentations.contour_tracing import trace_outlines

Points = npt.NDArray[np.float64]
_Corners = npt.NDArray[np.int32]


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
    pieces, _ = ndimage.label(inside)
    outer: dict[int, _Corners] = {}
    holes: dict[int, list[_Corners]] = {}
    for number in range(count):
        outline = corners[starts[number] : starts[number + 1]]
        piece = int(pieces[outline[0, 0], outline[0, 1]])  # the pixel above its first, lower edge
        if _turns_left(outline):
            outer[piece] = outline
        else:
            holes.setdefault(piece, []).append(outline)
    # Of the mask with its border, corner (1, 1) is the outermost one of pixel (0, 0).
    return [
        _without_straight_points(_with_holes(outline, holes.get(piece, ()))) - 1.5
        for piece, outline in outer.items()
    ]


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


def _turns_left(outline: _Corners) -> bool:
    x, y = outline[:, 0].astype(np.int64), outline[:, 1].astype(np.int64)
    return bool(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0)


def _with_holes(outline: _Corners, holes: Any) -> _Corners:
    """Join holes to an outline by channels along lines of constant y.

    The nearest corner at lower x on the line of the leftmost corner of a hole is on the outline or
    on a hole that begins at lower x and has been joined before.
    """
    for hole in sorted(holes, key=lambda corners: int(corners[:, 0].min())):
        first = int(np.argmin(hole[:, 0]))
        turned = np.concatenate([hole[first:], hole[: first + 1]])
        x, y = turned[0]
        on_line = np.flatnonzero((outline[:, 1] == y) & (outline[:, 0] < x))
        nearest = on_line[np.argmax(outline[on_line, 0])]
        outline = np.concatenate([outline[: nearest + 1], turned, outline[nearest:]])
    return outline


def _without_straight_points(outline: _Corners) -> Points:
    """Leave out the points at which a contour goes straight on, but not where it turns back."""
    arriving = outline - np.roll(outline, 1, axis=0)
    leaving = np.roll(outline, -1, axis=0) - outline
    straight = np.all(np.sign(arriving) == np.sign(leaving), axis=1)
    return np.asarray(outline[~straight], dtype=np.float64)
