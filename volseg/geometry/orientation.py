"""Reordering and flipping of array axes so that they point in given world directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, ShapeError
from volseg.geometry.affine import Affine


@dataclass(frozen=True)
class Reorientation:
    """A permutation and flips of the spatial axes: nothing is resampled.

    Attributes:
        order: for each new axis, the number of the old axis it shows.
        flips: for each new axis, whether it runs against the old one.
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array (..., x, y, z) with its trailing spatial axes rearranged."""
        dims = len(self.order)
        if array.ndim < dims:
            raise ShapeError(
                f"an array with {array.ndim} axes, shape {array.shape}, cannot be reoriented along "
                f"{dims} spatial axes."
            )
        leading = array.ndim - dims
        moved = array.transpose(*range(leading), *(leading + axis for axis in self.order))
        against = tuple(leading + axis for axis, flip in enumerate(self.flips) if flip)
        return np.flip(moved, against)

    def apply_to_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape after `apply`."""
        return tuple(int(shape[axis]) for axis in self.order)

    def apply_to_affine(self, affine: Affine, shape: Sequence[int]) -> Affine:
        """Return the affine after `apply`: every voxel keeps its place in the world.

        Args:
            affine: affine of the array before.
            shape: spatial shape of the array before.
        """
        return affine @ self.index_map(shape)

    def index_map(self, shape: Sequence[int]) -> Affine:
        """Return the affine from new voxel indices to old ones, for the old spatial shape."""
        dims = len(self.order)
        matrix = np.zeros((dims + 1, dims + 1))
        matrix[dims, dims] = 1.0
        for new, (old, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            matrix[old, new] = -1.0 if flip else 1.0
            matrix[old, dims] = shape[old] - 1 if flip else 0
        return Affine(matrix)

    def inverse(self) -> Reorientation:
        """Return the rearrangement that undoes this one."""
        new_of_old = tuple(self.order.index(old) for old in range(len(self.order)))
        return Reorientation(new_of_old, tuple(self.flips[new] for new in new_of_old))


def parse_orientation(codes: str | Sequence[str]) -> tuple[str, ...]:
    """Return axis codes such as "RAS" or ("L", "P", "S") as a checked tuple of letters.

    Raises:
        GeometryError: if the codes do not name each of the two or three world axes once.
    """
    letters = tuple(str(code).upper() for code in codes)
    pairs = Affine.WORLD_AXES[: len(letters)]
    worlds = sorted(world for code in letters for world, pair in enumerate(pairs) if code in pair)
    if len(letters) not in (2, 3) or worlds != list(range(len(letters))):
        raise GeometryError(
            f"axis codes must name each world axis once, one of R/L, A/P and S/I (2D: R/L and "
            f"A/P), such as 'RAS', got {''.join(letters)!r}."
        )
    return letters


def direction_of(codes: str | Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the (n, n) direction matrix whose columns point exactly along the axis codes."""
    letters = parse_orientation(codes)
    direction = np.zeros((len(letters), len(letters)))
    for axis, code in enumerate(letters):
        world, sign = _world_axis(code)
        direction[world, axis] = sign
    return direction


def reorientation(affine: Affine, codes: str | Sequence[str]) -> Reorientation:
    """Return the permutation and flips that bring the array axes nearest to the axis codes.

    Raises:
        GeometryError: if the codes are not valid for the affine's number of axes.
    """
    wanted = parse_orientation(codes)
    if len(wanted) != affine.spatial_dims:
        raise GeometryError(
            f"an affine of {affine.spatial_dims} axes cannot be brought to the orientation "
            f"{''.join(wanted)!r}, which has {len(wanted)}."
        )
    current = [_world_axis(code) for code in affine.orientation]
    worlds = [world for world, _ in current]
    order = []
    flips = []
    for world, sign in (_world_axis(code) for code in wanted):
        axis = worlds.index(world)
        order.append(axis)
        flips.append(current[axis][1] != sign)
    return Reorientation(tuple(order), tuple(flips))


def _world_axis(code: str) -> tuple[int, int]:
    world = next(number for number, pair in enumerate(Affine.WORLD_AXES) if code in pair)
    return world, 1 if Affine.WORLD_AXES[world][1] == code else -1
