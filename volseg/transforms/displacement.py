"""Smooth displacements from a few control points: cubic B-splines through the node values.

The nodes span the output grid, the outermost ones on its first and last voxel; beyond them the
spline is mirrored (the `mirror` mode of `scipy.ndimage`). A value on the dense grid is a separable
matrix product of the node values, one matrix an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# The derivative of the displacement may reach this part of the limit at which voxels can fold.
# Below 1 also makes the fixed-point inversion a contraction.
FOLD_MARGIN = 0.9
_POINTS_A_CELL = 6


# The matrices are those of the last draw as a rule; none may be written to.
_kept = lru_cache(maxsize=32)


@_kept
def spline_coefficients(nodes: int) -> Matrix:
    """Return the (nodes, nodes) matrix from node values to cubic B-spline coefficients.

    Unser, Splines: a perfect fit for signal and image processing (1999); mirrored ends.
    """
    collocation = _basis(np.arange(nodes, dtype=np.float64), nodes)
    return _read_only(np.linalg.inv(collocation).astype(np.float64))


@_kept
def node_weights(size: int, nodes: int) -> Matrix:
    """Return the (size, nodes) matrix from node values to the values at the voxels of an axis."""
    positions = np.linspace(0.0, nodes - 1.0, size) if size > 1 else np.zeros(1)
    return _read_only(_basis(positions, nodes) @ spline_coefficients(nodes))


def coefficients_of(values: Matrix) -> Matrix:
    """Return the B-spline coefficients of node values (components, *nodes)."""
    for axis in range(1, values.ndim):
        values = along_axis(spline_coefficients(values.shape[axis]), values, axis)
    return values


def along_axis(matrix: Matrix, values: Matrix, axis: int) -> Matrix:
    """Return the values with each line along an axis multiplied by a matrix (new, old)."""
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    lines = values.reshape(math.prod(before), values.shape[axis], math.prod(after))
    return (matrix @ lines).reshape(*before, len(matrix), *after)


def largest_displacement(values: Matrix) -> Matrix:
    """Return a bound of the displacement of each component, from node values.

    A B-spline lies in the convex hull of its coefficients.
    """
    found: Matrix = np.abs(coefficients_of(values)).reshape(len(values), -1).max(axis=1)
    return found


def fold_bound(values: Matrix, extent: Sequence[float]) -> float:
    """Return how steep a displacement is; below 1 nothing folds.

    The largest row sum of the absolute derivatives, read at points much closer than the control
    points. Below 1 the map x + u(x) is invertible with a positive Jacobian determinant.

    Args:
        values: displacements at the nodes, (axes, *nodes), in mm (or all in voxels).
        extent: distance of the outermost nodes along each axis, in the same unit.
    """
    rows: Matrix = np.zeros(1)
    for derived in range(len(extent)):
        slope = values
        for axis, length in enumerate(extent):
            nodes = values.shape[axis + 1]
            slope = along_axis(_dense(nodes, slope=axis == derived), slope, axis + 1)
            if axis == derived:
                slope = slope * ((nodes - 1) / length)
        rows = rows + np.abs(slope)
    return float(rows.max())


def without_folds(values: Matrix, extent: Sequence[float]) -> Matrix:
    """Return the displacement, scaled down as a whole if its derivative could let voxels fold.

    The arguments are those of `fold_bound`.
    """
    bound = fold_bound(values, extent)
    return values if bound <= FOLD_MARGIN else values * (FOLD_MARGIN / bound)


@_kept
def _dense(nodes: int, *, slope: bool) -> Matrix:
    """Return the matrix from node values to values or slopes at points much closer than those."""
    positions = np.linspace(0.0, nodes - 1.0, _POINTS_A_CELL * (nodes - 1) + 1)
    return _read_only(_basis(positions, nodes, slope=slope) @ spline_coefficients(nodes))


def _read_only(matrix: Matrix) -> Matrix:
    matrix.setflags(write=False)
    return matrix


def _basis(positions: Matrix, nodes: int, *, slope: bool = False) -> Matrix:
    """Return the cubic B-splines of mirrored nodes at positions in node units, (n, nodes)."""
    matrix = np.zeros((len(positions), nodes))
    rows = np.arange(len(positions))
    below = np.floor(positions).astype(np.int64)
    period = max(2 * (nodes - 1), 1)
    for tap in range(-1, 3):
        node = (below + tap) % period
        node = np.where(node >= nodes, period - node, node)
        distance = positions - (below + tap)
        np.add.at(matrix, (rows, node), _cubic_slope(distance) if slope else _cubic(distance))
    return matrix


def _cubic(distance: Matrix) -> Matrix:
    near = np.abs(distance)
    inner = 2 / 3 - near**2 + near**3 / 2
    outer = np.maximum(2 - near, 0.0) ** 3 / 6
    return np.where(near < 1, inner, outer)


def _cubic_slope(distance: Matrix) -> Matrix:
    near = np.abs(distance)
    inner = 1.5 * near**2 - 2 * near
    outer = -(np.maximum(2 - near, 0.0) ** 2) / 2
    slope: Matrix = np.sign(distance) * np.where(near < 1, inner, outer)
    return slope
