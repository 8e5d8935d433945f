"""A grid of voxels in the world: a spatial shape and the affine that places it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError
from volseg.geometry.affine import Affine

# Two grids are one when no voxel is displaced by more than this part of the smallest spacing:
# above what text headers and float32 matrices lose, far below what could move a label.
_TOLERANCE_IN_VOXELS = 0.01


@dataclass(frozen=True)
class Grid:
    """The place of every voxel of an array in the world.

    Attributes:
        shape: spatial shape in voxels, (x, y) or (x, y, z).
        affine: map from voxel indices to RAS+ millimetres.

    Raises:
        GeometryError: if the shape is not positive or has another number of axes than the affine.
    """

    shape: tuple[int, ...]
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        object.__setattr__(self, "shape", shape)
        if len(shape) != self.affine.spatial_dims or any(size < 1 for size in shape):
            raise GeometryError(
                f"a grid on an affine of {self.affine.spatial_dims} axes needs that many positive "
                f"sizes, got the shape {shape}."
            )

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance between voxel centres along each array axis, in mm."""
        return self.affine.spacing

    @property
    def voxel_volume(self) -> float:
        """The volume of one voxel in mm³ (2D: area of one pixel in mm²), shear included."""
        return float(abs(np.linalg.det(self.affine.matrix[:-1, :-1])))

    @property
    def extent(self) -> tuple[float, ...]:
        """The length of the grid along each array axis from edge to edge, in mm."""
        return tuple(n * step for n, step in zip(self.shape, self.spacing, strict=True))

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """The world positions of the corner voxels' centres, shape (2**n, n), in mm."""
        indices = list(itertools.product(*((0, size - 1) for size in self.shape)))
        return self.affine.apply(np.array(indices, dtype=np.float64))

    @property
    def centre(self) -> tuple[float, ...]:
        """The world position of the middle of the grid, in mm."""
        middle = self.affine.apply((np.array(self.shape) - 1) / 2)
        return tuple(float(value) for value in middle)

    def describe(self) -> str:
        """Return shape, spacing, orientation and first voxel in one phrase for messages."""
        spacing = " x ".join(f"{value:.6g}" for value in self.spacing)
        origin = ", ".join(f"{value:.6g}" for value in self.affine.origin)
        size = " x ".join(str(value) for value in self.shape)
        codes = "".join(self.affine.orientation)
        return f"{size} voxels of {spacing} mm, axes {codes}, first voxel at ({origin}) mm"


def index_mapping(source: Grid, target: Grid) -> Affine:
    """Return the affine that takes voxel indices of `target` to voxel indices of `source`."""
    return source.affine.inverse() @ target.affine


def require_same_grid(
    first: Grid,
    second: Grid,
    *,
    what: str = "the two images",
    tolerance_mm: float | None = None,
    advice: str = "resample one onto the other's grid",
) -> None:
    """Raise unless two grids have one shape and put every voxel at the same place.

    Args:
        first: one grid.
        second: the other grid.
        what: names the two in the message, such as "the image a.nii and the label b.nii".
        tolerance_mm: largest displacement of any voxel that still counts as equal, in mm; one
            hundredth of the smallest spacing if not given.
        advice: what the message tells the user to do.

    Raises:
        GeometryError: with both geometries and the largest displacement in mm.
    """
    allowed = _TOLERANCE_IN_VOXELS * min((*first.spacing, *second.spacing))
    if tolerance_mm is not None:
        allowed = tolerance_mm
    if first.shape != second.shape:
        raise GeometryError(
            f"{what} must have the same spatial shape: found {first.describe()}, and "
            f"{second.describe()}; {advice}."
        )
    apart = first.affine.displacement(second.affine, first.shape)
    if apart > allowed:
        raise GeometryError(
            f"{what} must lie on the same grid: found {first.describe()}, and "
            f"{second.describe()}; the same voxel is up to {apart:.4g} mm apart where at most "
            f"{allowed:.2g} mm is expected; {advice}."
        )
