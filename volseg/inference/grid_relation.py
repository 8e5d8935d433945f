"""How two grids whose axes are parallel lie in each other: one linear map an axis.

That is what reorienting and resampling to another spacing do to a grid. Nothing else is restored:
a rotation would need all voxels around a point, an axis at a time needs two planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError
from volseg.geometry import Grid, index_mapping

# Less than this part of a voxel, over a whole grid, comes from headers in text or float32
# (`volseg.geometry.grid` takes grids that differ by it for the same).
_SAME_PLACE = 0.01


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
