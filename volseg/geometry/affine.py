"""The affine that takes voxel indices to world positions: a value object checked once.

World is RAS+ in millimetres (x to the patient's right, y to the front, z to the head) and voxel
centres lie at integer indices, as in NIfTI-1. Two-dimensional images keep the first two axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError

Matrix = npt.NDArray[np.float64]

# A matrix whose normalised columns span less than this volume cannot be inverted meaningfully.
_SINGULAR = 1e-9
_UNIT_TOLERANCE = 1e-4


class Affine:
    """An immutable map from voxel indices to world positions in millimetres.

    Args:
        matrix: homogeneous matrix of shape (n + 1, n + 1), n = 2 or 3 spatial axes.

    Raises:
        GeometryError: if the matrix has another shape, is not finite, does not end in the row
            (0, ..., 0, 1) or cannot be inverted.
    """

    __slots__ = ("_matrix",)
    _matrix: Matrix

    WORLD_AXES: ClassVar[tuple[tuple[str, str], ...]] = (("L", "R"), ("P", "A"), ("I", "S"))

    def __init__(self, matrix: npt.ArrayLike) -> None:
        checked = _checked_matrix(matrix)
        checked.setflags(write=False)
        object.__setattr__(self, "_matrix", checked)

    @classmethod
    def from_parts(
        cls,
        spacing: Sequence[float] | Matrix,
        origin: Sequence[float] | Matrix | None = None,
        direction: npt.ArrayLike | None = None,
    ) -> Self:
        """Return the affine of a spacing (mm), the position of voxel 0 (mm) and unit axes.

        Args:
            spacing: positive distance between voxel centres along each array axis, in mm.
            origin: world position of the first voxel's centre, in mm; zeros if not given.
            direction: (n, n) matrix whose columns are the unit directions of the array axes in
                the world; the identity if not given.

        Raises:
            GeometryError: if a part is not finite, a spacing is not positive, the sizes differ or
                a direction is not of unit length.
        """
        steps = np.asarray(spacing, dtype=np.float64)
        dims = steps.size
        if steps.ndim != 1 or not np.all(np.isfinite(steps)) or np.any(steps <= 0):
            raise GeometryError(
                f"the spacing must be positive and finite in mm on every axis, got {steps.tolist()}"
                "; correct the header of the image."
            )
        start = np.zeros(dims) if origin is None else np.asarray(origin, dtype=np.float64)
        axes = np.eye(dims) if direction is None else np.asarray(direction, dtype=np.float64)
        if start.shape != (dims,) or axes.shape != (dims, dims):
            raise GeometryError(
                f"a spacing of {dims} axes needs an origin of {dims} numbers and a {dims} x {dims} "
                f"direction, got shapes {start.shape} and {axes.shape}."
            )
        lengths = np.linalg.norm(axes, axis=0)
        if not np.all(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE):
            raise GeometryError(
                "the columns of the direction must have length 1, got lengths "
                f"{lengths.round(6).tolist()}; correct the header of the image."
            )
        matrix = np.eye(dims + 1)
        matrix[:dims, :dims] = axes * steps
        matrix[:dims, dims] = start
        return cls(matrix)

    @classmethod
    def from_lps(cls, matrix: npt.ArrayLike) -> Self:
        """Return the RAS+ affine of a matrix given in LPS+ (DICOM and ITK): x and y negated."""
        return cls(_flip_x_and_y(_checked_matrix(matrix)))

    def to_lps(self) -> Matrix:
        """Return a matrix to LPS+ positions (DICOM and ITK): x and y negated, in 2D as in 3D."""
        return _flip_x_and_y(self._matrix)

    @property
    def matrix(self) -> Matrix:
        """The read-only homogeneous matrix, (n + 1, n + 1) float64."""
        return self._matrix

    @property
    def spatial_dims(self) -> int:
        """The number of spatial axes, 2 or 3."""
        return len(self._matrix) - 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance between neighbouring voxel centres along each array axis, in mm."""
        lengths = np.linalg.norm(self._linear, axis=0)
        return tuple(float(length) for length in lengths)

    @property
    def origin(self) -> tuple[float, ...]:
        """The world position of the centre of voxel (0, ..., 0), in mm."""
        return tuple(float(value) for value in self._matrix[:-1, -1])

    @property
    def direction(self) -> Matrix:
        """The unit directions of the array axes in the world, as columns of an (n, n) matrix."""
        return np.asarray(self._linear / np.linalg.norm(self._linear, axis=0))

    @property
    def orientation(self) -> tuple[str, ...]:
        """The world direction nearest to each array axis, such as ("R", "A", "S").

        Each world axis is used once even when the array is strongly oblique: of all pairings the
        one with the largest product of cosines is taken.
        """
        cosines = self.direction
        return tuple(
            self.WORLD_AXES[world][int(cosines[world, axis] > 0)]
            for axis, world in enumerate(self.nearest_world_axes)
        )

    @property
    def nearest_world_axes(self) -> tuple[int, ...]:
        """The number of the world axis paired with each array axis: always a permutation."""
        strength = np.abs(self.direction)
        axes = range(self.spatial_dims)

        # Rounded, so that an exact tie (45 degrees) is decided by order and not by the last bit.
        def product_of_cosines(worlds: tuple[int, ...]) -> float:
            return round(float(np.prod(strength[list(worlds), list(axes)])), 9)

        return max(itertools.permutations(axes), key=product_of_cosines)

    @property
    def obliquity(self) -> float:
        """The largest angle between an array axis and its nearest world axis, in radians."""
        worlds = list(self.nearest_world_axes)
        paired = np.abs(self.direction[worlds, range(self.spatial_dims)])
        return float(np.arccos(np.clip(paired, 0.0, 1.0)).max())

    @property
    def shear(self) -> float:
        """The largest departure of two array axes from a right angle, in radians."""
        axes = self.direction
        pairs = itertools.combinations(range(self.spatial_dims), 2)
        cosines = [abs(float(axes[:, a] @ axes[:, b])) for a, b in pairs]
        return float(np.arcsin(min(1.0, max(cosines))))

    def is_orthogonal(self, tolerance: float = 1e-4) -> bool:
        """Return whether all array axes are at right angles, within a tolerance in radians."""
        return self.shear <= tolerance

    def inverse(self) -> Affine:
        """Return the map from world positions back to voxel indices."""
        inverted = np.linalg.inv(self._matrix)
        inverted[-1] = self._matrix[-1]
        return Affine(inverted)

    def compose(self, first: Affine) -> Affine:
        """Return the map that applies `first`, then this one; also written `self @ first`."""
        if first.spatial_dims != self.spatial_dims:
            raise GeometryError(
                f"an affine of {self.spatial_dims} axes cannot follow one of {first.spatial_dims} "
                "axes; both must describe the same number of spatial axes."
            )
        product = self._matrix @ first.matrix
        product[-1] = self._matrix[-1]
        return Affine(product)

    def __matmul__(self, first: Affine) -> Affine:
        return self.compose(first)

    def apply(self, points: npt.ArrayLike) -> Matrix:
        """Return the images of points of shape (..., n); voxel indices give positions in mm."""
        given = np.asarray(points, dtype=np.float64)
        if given.shape[-1:] != (self.spatial_dims,):
            raise GeometryError(
                f"points must have {self.spatial_dims} coordinates on their last axis, got an "
                f"array of shape {given.shape}."
            )
        return np.asarray(given @ self._linear.T + self._matrix[:-1, -1])

    def displacement(self, other: Affine, shape: Sequence[int] | None = None) -> float:
        """Return how far, at most, two affines put the same voxel of an array apart, in mm.

        The displacement is convex in the index, so its maximum is found at a corner voxel.

        Args:
            other: affine of the same number of axes.
            shape: spatial shape of the array; without it only voxel (0, ..., 0) and its direct
                neighbours are compared.
        """
        size = np.full(self.spatial_dims, 2) if shape is None else np.asarray(shape)
        corners = np.array(list(itertools.product(*((0, n - 1) for n in size))), dtype=np.float64)
        apart = self.apply(corners) - other.apply(corners)
        return float(np.linalg.norm(apart, axis=-1).max())

    def is_close(
        self, other: Affine, tolerance_mm: float = 1e-3, shape: Sequence[int] | None = None
    ) -> bool:
        """Return whether no corner voxel is displaced by more than `tolerance_mm` millimetres.

        The meaning of `shape` is that of `displacement`; affines of different numbers of axes are
        never close.
        """
        if other.spatial_dims != self.spatial_dims:
            return False
        return self.displacement(other, shape) <= tolerance_mm

    @property
    def _linear(self) -> Matrix:
        return self._matrix[:-1, :-1]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Affine cannot be changed (tried to set {name!r})")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and np.array_equal(self._matrix, other._matrix)

    def __hash__(self) -> int:
        # Adding zero turns -0.0 into 0.0: equal matrices must have equal hashes.
        return hash((self._matrix + 0.0).tobytes())

    def __repr__(self) -> str:
        return f"Affine({self._matrix.tolist()})"

    def __reduce__(self) -> tuple[type[Affine], tuple[list[list[float]]]]:
        return type(self), (self._matrix.tolist(),)


def _checked_matrix(matrix: npt.ArrayLike) -> Matrix:
    try:
        checked = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"an affine must be a matrix of numbers, got {matrix!r}.") from error
    if checked.shape not in ((3, 3), (4, 4)):
        raise GeometryError(
            f"an affine must be a 3 x 3 (2D) or 4 x 4 (3D) matrix, got shape {checked.shape}."
        )
    if not np.all(np.isfinite(checked)):
        raise GeometryError(
            f"an affine must be finite, got {checked.tolist()}; correct the header of the image."
        )
    if np.any(checked[-1] != np.eye(len(checked))[-1]):
        raise GeometryError(
            "the last row of an affine must be zeros and a one, got "
            f"{checked[-1].tolist()}; correct the header of the image."
        )
    linear = checked[:-1, :-1]
    lengths = np.linalg.norm(linear, axis=0)
    if np.any(lengths == 0) or abs(np.linalg.det(linear / lengths)) < _SINGULAR:
        raise GeometryError(
            f"an affine must be invertible, got {checked.tolist()}, which flattens at least one "
            "axis; correct the header of the image."
        )
    return checked


def _flip_x_and_y(matrix: Matrix) -> Matrix:
    flipped = matrix.copy()
    flipped[:2] *= -1.0
    return flipped + 0.0  # no negative zeros
