"""What the drawn numbers of a movement mean: from angles, factors and shifts to a mapping.

Conventions as in `volseg.transforms.spatial`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from volseg.errors import InputError
from volseg.geometry import Grid
from volseg.transforms.displacement import Matrix
from volseg.transforms.mapping import Pull

Parameters = dict[str, Any]


def pull_of(parameters: Parameters, grid: Grid) -> Pull:
    """Return the mapping of drawn parameters on a reference grid.

    Raises:
        InputError: They lead out of all that numbers can hold.
    """
    axes = len(grid.shape)
    spacing = np.array(grid.spacing)
    scaling = np.diag(np.asarray(parameters["flip"]) * np.asarray(parameters["scale"]))
    content = _rotation(parameters["rotation"], axes) @ _shear(parameters["shear"], axes) @ scaling
    back = np.linalg.inv(content)
    size = tuple(int(n) for n in parameters["size"])
    linear = back * (spacing / spacing[:, None])
    shift = (back @ np.asarray(parameters["translation"], dtype=float)) / spacing
    matrix = np.eye(axes + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = (
        np.asarray(parameters["centre"], dtype=float) - linear @ ((np.array(size) - 1) / 2) - shift
    )
    return Pull(matrix, size, displacement_in_voxels(parameters, spacing))


def displacement_in_voxels(parameters: Parameters, spacing: Any) -> Matrix | None:
    """Return drawn displacements, in mm, in voxels of a spacing; None where there is none."""
    nodes = np.asarray(parameters["displacement"], dtype=float)
    if not nodes.any():
        return None
    steps = np.asarray(spacing, dtype=float)
    return np.asarray(nodes / steps.reshape(-1, *([1] * (nodes.ndim - 1))))


def matrix_like(matrix: Matrix, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix with as many axes as an affine: a 2D image may carry a 3D affine."""
    result = torch.eye(len(like), dtype=like.dtype, device=like.device)
    axes = len(matrix) - 1
    values = torch.as_tensor(matrix, dtype=like.dtype, device=like.device)
    result[:axes, :axes] = values[:-1, :-1]
    result[:axes, -1] = values[:-1, -1]
    return result


def offset_kept(matrix: Matrix, offset: Sequence[float]) -> Matrix:
    """Return the shift of a label map's indices by which its offset is the same after a move.

    An index ``i`` of the label map is of ``i + offset`` in the image. After the move ``M`` it is of
    ``M (i + offset)`` in the image before, which the label map has at ``M (i + offset) - offset``.

    Args:
        matrix: The move of indices, homogeneous.
        offset: In voxels, one number an axis.

    Raises:
        InputError: There is not one number an axis.
    """
    axes = len(matrix) - 1
    if len(offset) != axes:
        raise InputError(f"label_offset is {list(offset)}; expected {axes} numbers, one an axis.")
    beside = np.asarray(offset, dtype=float)
    shift = np.eye(axes + 1)
    shift[:-1, -1] = matrix[:-1, :-1] @ beside - beside
    return shift


def require_offset(
    offset: Sequence[float], key: Hashable, keys: Sequence[Hashable]
) -> tuple[float, ...]:
    """Return the offset of a label map, if it is one and of one of the keys.

    Raises:
        InputError: It is not finite, or of a key that is not moved.
    """
    if not np.isfinite(offset).all():
        raise InputError(f"label_offset is {list(offset)}; expected finite numbers of voxels.")
    if any(offset) and key not in keys:
        raise InputError(
            f"label_offset is of the key {key!r}; expected one of {list(keys)}: name the label map "
            "with label_key."
        )
    return tuple(offset)


def _rotation(angles: Sequence[float], axes: int) -> Matrix:
    """Return the rotation of the content; see the module for its sign and order."""
    planes = [(0, 1)] if axes == 2 else [(1, 2), (2, 0), (0, 1)]
    matrix = np.eye(axes)
    for angle, (first, second) in zip(angles, planes, strict=True):
        turn = np.eye(axes)
        cosine, sine = math.cos(float(angle)), math.sin(float(angle))
        turn[first, first] = turn[second, second] = cosine
        turn[second, first], turn[first, second] = sine, -sine
        matrix = turn @ matrix
    return matrix


def _shear(factors: Sequence[float], axes: int) -> Matrix:
    matrix = np.eye(axes)
    for factor, (row, column) in zip(factors, itertools.permutations(range(axes), 2), strict=True):
        matrix[row, column] = float(factor)
    return matrix
