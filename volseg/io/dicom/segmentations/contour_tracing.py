"""The outlines of a mask along the edges of its pixels: the compiled loop.

The corners of pixels form a lattice: pixel (x, y) has the corners (x, y) to (x + 1, y + 1). An
outline is followed from corner to corner with the mask on its left, so that it turns left around a
piece of the mask and right around a hole. Where two pixels touch at a corner only, the outline
stays with its own: pieces are joined over sides, holes over corners too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.compiled import compiled


@compiled
def trace_outlines(
    mask: npt.NDArray[np.bool_],
    corners: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
) -> Any:
    """Write the corners of every outline of a mask, and return how many outlines there are.

    Args:
        mask: `(x, y)`, with a border of pixels that are not in it.
        corners: `(edges, 2)`, for as many as there are edges between the mask and the rest.
        starts: `(edges + 1,)`, the first row of each outline in `corners`, and the row after the
            last one.
    """
    width, height = mask.shape
    seen = np.zeros(mask.shape, np.bool_)  # lower edges of pixels that were followed
    count, place = 0, 0
    for x in range(1, width):
        for y in range(1, height):
            if not mask[x, y] or mask[x, y - 1] or seen[x, y]:
                continue
            starts[count] = place
            count += 1
            at_x, at_y, step_x, step_y = x, y, 1, 0
            while True:
                if step_x == 1:
                    if seen[at_x, at_y]:
                        break
                    seen[at_x, at_y] = True
                corners[place, 0], corners[place, 1] = at_x, at_y
                place += 1
                at_x += step_x
                at_y += step_y
                # The pixels ahead: of the four around a corner, the two in the direction of travel.
                left_x, left_y = -step_y, step_x
                ahead_left = mask[
                    at_x + (step_x + left_x - 1) // 2, at_y + (step_y + left_y - 1) // 2
                ]
                ahead_right = mask[
                    at_x + (step_x - left_x - 1) // 2, at_y + (step_y - left_y - 1) // 2
                ]
                if not ahead_left:
                    step_x, step_y = left_x, left_y
                elif ahead_right:
                    step_x, step_y = -left_x, -left_y
    starts[count] = place
    return count


@compiled
def follow_outline(
    following: npt.NDArray[np.int64], start: int, path: npt.NDArray[np.int64]
) -> Any:
    """Write the numbers of the corners of an outline, and return how many they are.

    Args:
        following: number of the corner after each one.
        start: number of the first corner.
        path: long enough for all corners there are.
    """
    path[0] = start
    length = 1
    corner = following[start]
    while corner != start:
        path[length] = corner
        length += 1
        corner = following[corner]
    return length
