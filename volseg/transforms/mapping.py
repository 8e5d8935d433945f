"""Where each output voxel comes from: an affine map and a displacement, or the inverse of both.

A mapping gives the coordinates slab by slab, so that they stay in the processor's cache and the
dense grid is never stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch

from volseg.errors import InputError
from volseg.transforms.compiled_sampling import products
from volseg.transforms.displacement import (
    Matrix,
    along_axis,
    largest_displacement,
    node_weights,
)
from volseg.transforms.sampling import Source

# Fixed-point inversion of a displacement stops when no voxel moves by more than this, in voxels.
_STEP_TOLERANCE = 1e-3
_MOST_STEPS = 100
# No volume is as large, and float32 still tells such an index from infinity.
_FARTHEST = 1e30


# What computes the source indices (axes, voxels) of some rows, in the thread that samples there.
Indices = Callable[[], torch.Tensor]
Slab = tuple[slice, Indices]


class Mapping(Protocol):
    """The source position of each voxel of an output grid."""

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size of the output."""

    def bounds(self) -> tuple[Matrix, Matrix]:
        """Return the smallest and the largest source index that can occur, one an axis."""

    def slabs(self, device: torch.device, voxels: int) -> Iterator[Slab]:
        """Yield rows of the output's first axis, and what computes their source indices."""


@dataclass(frozen=True)
class Pull:
    """Source index = matrix · (o + displacement(o)) for the output voxel o.

    Attributes:
        matrix: homogeneous matrix from output to source indices, (n + 1, n + 1).
        size: spatial size of the output.
        nodes: displacements at the control points in output voxels, (n, *nodes), or None.
    """

    matrix: Matrix
    size: tuple[int, ...]
    nodes: Matrix | None = None

    def __post_init__(self) -> None:
        lower, upper = self.bounds()
        if not (np.abs([lower, upper]) < _FARTHEST).all():
            raise InputError(
                f"voxels would be read at indices from {lower.tolist()} to {upper.tolist()}; "
                "expected finite ones: check translation, scale and displacement."
            )

    def bounds(self) -> tuple[Matrix, Matrix]:
        """Return the smallest and the largest source index that can occur, one an axis."""
        corners = np.array(list(itertools.product(*((0, n - 1) for n in self.size))), dtype=float)
        linear = self.matrix[:-1, :-1]
        found = corners @ linear.T + self.matrix[:-1, -1]
        reach = np.zeros(len(self.size))
        if self.nodes is not None:
            reach = largest_displacement(np.tensordot(linear, self.nodes, axes=1))
        return found.min(axis=0) - reach, found.max(axis=0) + reach

    def slabs(self, device: torch.device, voxels: int) -> Iterator[Slab]:
        """Yield rows of the output's first axis, and what computes their source indices."""
        # Along the last axis a coordinate is a sum of 1, the index and the splines: one product.
        first, last = self.size[:-1], self.size[-1]
        columns = [np.ones(last), np.arange(last, dtype=float)]
        if self.nodes is not None:
            columns.extend(node_weights(last, self.nodes.shape[-1]).T)
        # A graphics card may round the factors of a float32 product to 10 bits (TF32).
        kind = torch.float64 if device.type == "cuda" else torch.float32
        across = torch.as_tensor(np.stack(columns), dtype=kind, device=device)
        along = torch.as_tensor(self._along(), dtype=kind, device=device)
        rows = max(1, voxels // max(1, math.prod(self.size[1:])))
        for start in range(0, first[0], rows):
            part = along[:, start : start + rows].flatten(1, -2)
            yield slice(start, start + rows), partial(_product, part, across)

    def _along(self) -> Matrix:
        """Return the factors of the columns, (axes, *all sizes but the last, columns)."""
        linear, offset = self.matrix[:-1, :-1], self.matrix[:-1, -1]
        first = self.size[:-1]
        axes = len(self.size)
        indices = np.indices(first, dtype=float).reshape(axes - 1, -1)
        constant = (linear[:, :-1] @ indices + offset[:, None]).reshape(axes, *first, 1)
        slope = np.broadcast_to(linear[:, -1].reshape(axes, *([1] * axes)), constant.shape)
        factors = [constant, slope]
        if self.nodes is not None:
            values = np.tensordot(linear, self.nodes, axes=1)
            for axis, size in enumerate(first, start=1):
                values = along_axis(node_weights(size, values.shape[axis]), values, axis)
            factors.append(values)
        return np.concatenate(factors, axis=-1)


@dataclass(frozen=True)
class Inverse:
    """The inverse of a `Pull`, as a mapping onto the grid the pull has read from.

    The displacement is inverted by the fixed point o = p - u(o); it converges for displacements
    that `without_folds` has passed. Beyond the output grid the displacement of its edge counts.

    Attributes:
        forward: the mapping to undo.
        size: spatial size of the grid it has read from.
    """

    forward: Pull
    size: tuple[int, ...]

    def bounds(self) -> tuple[Matrix, Matrix]:
        """Return the smallest and the largest index of the forward output that can occur."""
        lower, upper = self._affine().bounds()
        if self.forward.nodes is None:
            return lower, upper
        reach = largest_displacement(self.forward.nodes)
        return lower - reach, upper + reach

    def slabs(self, device: torch.device, voxels: int) -> Iterator[Slab]:
        """Yield rows of the first axis, and what computes their indices in the forward output."""
        slabs = self._affine().slabs(device, voxels)
        if self.forward.nodes is None:
            yield from slabs
            return
        values = self.forward.nodes
        for axis, size in enumerate(self.forward.size, start=1):
            values = along_axis(node_weights(size, values.shape[axis]), values, axis)
        field = torch.as_tensor(values, dtype=torch.float32, device=device)
        for rows, target in slabs:
            yield rows, partial(_fixed_point, target, field)

    def _affine(self) -> Pull:
        return Pull(np.linalg.inv(self.forward.matrix).astype(np.float64), self.size)


def _product(along: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Return the matrix product (axes, lines * voxels), float32."""
    if along.device.type == "cpu":
        result = torch.empty(len(along), along.shape[1] * across.shape[1])
        products(along.numpy(), across.numpy(), result.numpy())
        return result
    with torch.autocast(along.device.type, enabled=False):
        return torch.matmul(along, across).flatten(1).to(torch.float32)


def _fixed_point(indices: Indices, field: torch.Tensor) -> torch.Tensor:
    """Return o with o + field(o) = the indices; field is (axes, *size), read linearly."""
    target = indices()
    source = Source.prepare(field, mode="linear", padding="border")
    found, displaced = target.clone(), torch.empty_like(target)
    for _ in range(_MOST_STEPS):
        source.sample(found, displaced)
        improved = target - displaced
        step = float((improved - found).abs().max())
        found = improved
        if step < _STEP_TOLERANCE:
            break
    return found
