"""Grids with parallel axes: made from each other, and how they lie in each other, axis by axis.

That is what reorienting and resampling to another spacing do to a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError
from volseg.geometry.affine import Affine
from volseg.geometry.grid import Grid, index_mapping, require_same_grid
from volseg.geometry.orientation import Reorientation, reorientation

# Less than this part of a voxel, over a whole grid, comes from headers in text or float32
# (`volseg.geometry.grid` takes grids that differ by it for the same).
_SAME_PLACE = 0.01
_SAME_SPACING = 1e-3


@dataclass(frozen=True)
class AxisSampling:
    """Where the planes of a target grid lie along one axis of the grid that is read.

    Attributes:
        target_axis: The parallel axis of the target grid.
        lower: Plane read for each target plane, int64.
        upper: The next plane, or the same where nothing is to interpolate, int64.
        weight: Share of the upper plane, in [0, 1), float32; positions beyond the first and last
            plane are moved onto it.
    """

    target_axis: int
    lower: npt.NDArray[np.int64]
    upper: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]

    @property
    def copies(self) -> bool:
        """Whether every target plane is one of the planes read: nothing is interpolated."""
        return bool(np.array_equal(self.lower, self.upper))


def relate_grids(read: Grid, target: Grid) -> tuple[AxisSampling, ...]:
    """Return for each axis of the grid that is read where the target's voxels lie on it.

    Args:
        read: The grid that has values.
        target: The grid that wants them.

    Raises:
        GeometryError: An axis of one grid is not parallel to an axis of the other.
    """
    if len(read.shape) != len(target.shape):
        raise GeometryError(
            f"a result on {len(read.shape)} axes cannot be brought onto {len(target.shape)}: "
            f"found {read.describe()}, and {target.describe()}."
        )
    mapping = index_mapping(read, target).matrix
    linear, offset = mapping[:-1, :-1], mapping[:-1, -1]
    reach = np.abs(linear) * (np.array(target.shape) - 1)
    order = [int(axis) for axis in np.argmax(np.abs(linear), axis=1)]
    aside = reach.sum(axis=1) - reach[np.arange(len(order)), order]
    if sorted(order) != list(range(len(order))) or aside.max() > _SAME_PLACE:
        raise GeometryError(
            "a result can be brought onto a grid with parallel axes only (other order, direction, "
            f"spacing or extent): found {read.describe()}, and {target.describe()}, whose axes "
            f"are turned or sheared by up to {aside.max():.3g} voxels: resample one onto a grid "
            "parallel to the other's."
        )
    middle = linear @ ((np.array(target.shape) - 1) / 2) + offset
    return tuple(
        _sampling(read.shape[axis], target.shape[other], other, linear[axis, other], middle[axis])
        for axis, other in enumerate(order)
    )


def _sampling(side: int, target_side: int, axis: int, step: float, middle: float) -> AxisSampling:
    """Return the planes next to each target plane, ``step`` apart around ``middle``."""
    places = middle + step * (np.arange(target_side) - (target_side - 1) / 2)
    nearest = np.rint(places)
    copies = bool(np.abs(places - nearest).max() <= _SAME_PLACE)
    places = (nearest if copies else places).clip(0, side - 1)
    lower = np.floor(places).astype(np.int64)
    upper = lower if copies else np.minimum(lower + 1, side - 1)
    return AxisSampling(axis, lower, upper, (places - lower).astype(np.float32))


def reorientation_onto(
    grid: Grid,
    target: Grid,
    *,
    what: str = "the two images",
    advice: str = "resample one onto the other's grid",
) -> Reorientation:
    """Return the permutation and flips of a grid's axes that make it another grid.

    Args:
        grid: Whose axes run in any order and direction.
        target: A grid of the same voxels.
        what: Names the two in the message.
        advice: What it tells the user to do.

    Raises:
        GeometryError: The two are not grids of the same voxels.
    """
    if len(grid.shape) != len(target.shape):
        raise GeometryError(
            f"{what} must have as many axes: found {grid.describe()}, and {target.describe()}."
        )
    axes = range(len(grid.shape))
    turns = np.rint(index_mapping(grid, target).matrix[:-1, :-1])
    order = [int(axis) for axis in np.argmax(np.abs(turns), axis=0)]
    if sorted(order) != list(axes):
        require_same_grid(grid, target, what=what, advice=advice)
        order = list(axes)
    turn = Reorientation(tuple(order), tuple(bool(turns[order[new], new] < 0) for new in axes))
    turned = Grid(turn.apply_to_shape(grid.shape), turn.apply_to_affine(grid.affine, grid.shape))
    require_same_grid(turned, target, what=what, advice=advice)
    return turn


def parallel_grid(
    grid: Grid, *, orientation: str | None = None, spacing: Sequence[float] | None = None
) -> Grid:
    """Return the grid with its axes in another order and direction and with another spacing.

    The middle of the grid stays where it is, and the extent from edge to edge changes by less than
    half a voxel a side. An axis whose spacing is already right within one part in a thousand is
    left as it is: nothing is to be gained by interpolating it.

    Args:
        grid: Where the result lies.
        orientation: Axis codes such as "RAS" that the axes come nearest to; as they are without it.
        spacing: Distance of voxel centres in mm along each axis of the result; as it is without it.

    Raises:
        GeometryError: The codes or the spacing do not suit the number of axes.
    """
    if orientation is not None:
        order = reorientation(grid.affine, orientation)
        affine = order.apply_to_affine(grid.affine, grid.shape)
        grid = Grid(order.apply_to_shape(grid.shape), affine)
    if spacing is None:
        return grid
    wanted = np.asarray(spacing, dtype=float)
    if (
        wanted.shape != (len(grid.shape),)
        or not (wanted > 0).all()
        or not np.isfinite(wanted).all()
    ):
        raise GeometryError(
            f"the spacing is {list(spacing)}; expected {len(grid.shape)} positive numbers of mm."
        )
    found = np.array(grid.spacing)
    steps = np.where(np.abs(wanted / found - 1) < _SAME_SPACING, 1.0, wanted / found)
    sizes = np.array(grid.shape)
    shape = np.where(steps == 1, sizes, np.maximum(1, np.rint(sizes / steps))).astype(int)
    matrix = np.diag([*steps, 1.0])
    matrix[:-1, -1] = (sizes - 1) / 2 - steps * (shape - 1) / 2
    return Grid(tuple(shape.tolist()), grid.affine @ Affine(matrix))
