"""What the network reads: a volume that may be larger than memory, a slab at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

READ_PLANES = 8  # at a time: those that come in exist twice


class SlabSource(Protocol):
    """A volume that is read slab by slab: in memory, mapped from a file, resampled as read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the spatial sides in voxels."""

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return the voxels from ``start`` to ``stop`` of one spatial axis, all of the others.

        Args:
            axis: Spatial axis, from 0; one run reads along one axis only, each voxel once and
                forwards but for mirrored borders.
            start: First plane, at least 0.
            stop: One past the last, at most the side.

        Returns:
            Floating point tensor ``(channels, ...)``; it may be a view, and is not written to.
        """


class TensorSource:
    """A tensor ``(channels, ...)`` in memory: slabs are views."""

    def __init__(self, values: Tensor) -> None:
        # Plain tensors inside: a MetaTensor would track every slice.
        plain: Tensor = values.as_tensor() if hasattr(values, "as_tensor") else values
        self.values = plain if plain.is_floating_point() else plain.float()

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the spatial sides in voxels."""
        return tuple(self.values.shape)

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return a view of planes of one spatial axis."""
        return self.values.narrow(axis + 1, start, stop - start)


class ArraySource:
    """An array ``(channels, ...)`` such as a `numpy.memmap`: slabs are copied to float32."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the spatial sides in voxels."""
        return tuple(self.values.shape)

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return planes of one spatial axis, float32."""
        slices = [slice(None)] * self.values.ndim
        slices[axis + 1] = slice(start, stop)
        return torch.from_numpy(np.array(self.values[tuple(slices)], dtype=np.float32, order="C"))


def as_source(volume: SlabSource | Tensor | npt.NDArray[Any]) -> SlabSource:
    """Return a tensor or array ``(channels, x, y[, z])`` as a source; a source as it is."""
    if isinstance(volume, Tensor):
        return TensorSource(volume)
    if isinstance(volume, np.ndarray):
        return ArraySource(volume)
    return volume


class TileReader:
    """Cuts tiles out of a source; what no later tile needs is forgotten.

    Args:
        source: The volume.
        axis: Spatial axis along which tiles come in order.
        tile: Size of a tile in voxels.
        mirrored: Whether the volume is mirrored beyond its faces, an axis each; zeros else.
    """

    def __init__(
        self, source: SlabSource, axis: int, tile: Sequence[int], mirrored: Sequence[bool]
    ) -> None:
        self._source = source
        self._sides = source.shape[1:]
        self._axis = axis
        self._tile = tuple(tile)
        self._mirrored = tuple(mirrored)
        self._buffer: Tensor | None = None
        self._first, self._stop = 0, 0  # the planes that the buffer holds

    def read(self, starts: Sequence[int]) -> Tensor:
        """Return the tile ``(channels, *tile)`` whose first voxel has these indices.

        Voxels beyond the volume are mirrored at its face (the face itself is not repeated) or
        zeros.
        """
        low, high = self._span(self._axis, starts[self._axis])
        part = self._planes(low, high)
        for axis, start in enumerate(starts):
            first, stop = self._span(axis, start)
            if axis != self._axis:
                part = part.narrow(axis + 1, first, stop - first)
            part = self._filled(part, axis, start, first)
        return part

    def _indices(self, axis: int, start: int) -> npt.NDArray[np.int64]:
        indices = np.arange(start, start + self._tile[axis])
        return mirrored_indices(indices, self._sides[axis]) if self._mirrored[axis] else indices

    def _span(self, axis: int, start: int) -> tuple[int, int]:
        """Return the planes of an axis that a tile needs."""
        indices = self._indices(axis, start)
        return max(0, int(indices.min())), min(self._sides[axis], int(indices.max()) + 1)

    def _filled(self, part: Tensor, axis: int, start: int, first: int) -> Tensor:
        """Return the planes of an axis, from ``first``, with what lies beyond the volume."""
        size, found = self._tile[axis], part.shape[axis + 1]
        if start >= 0 and start + size <= self._sides[axis]:
            return part
        if self._mirrored[axis]:
            chosen = torch.from_numpy(self._indices(axis, start) - first)
            return part.index_select(axis + 1, chosen.to(part.device))
        before = max(0, -start)
        later = part.ndim - 2 - axis  # torch pads the last axis first
        return functional.pad(part, [0, 0] * later + [before, size - before - found])

    def _planes(self, low: int, high: int) -> Tensor:
        """Return planes of the streaming axis, reading only those not yet held."""
        if isinstance(self._source, TensorSource):
            return self._source.read(self._axis, low, high)
        dim = self._axis + 1
        if low < self._first or low > self._stop:
            self._first = self._stop = low
        if high > self._stop and self._buffer is not None:
            discard_planes(self._buffer, dim, low - self._first, self._stop - self._first)
        if high > self._stop:
            self._first = low
        while high > self._stop:
            count = min(READ_PLANES, high - self._stop)
            new = self._source.read(self._axis, self._stop, self._stop + count)
            if self._buffer is None:
                shape = list(new.shape)
                shape[dim] = min(self._tile[self._axis], self._sides[self._axis])
                self._buffer = new.new_empty(shape)
            self._buffer.narrow(dim, self._stop - low, count).copy_(new)
            self._stop += count
        buffer = cast(Tensor, self._buffer)
        return buffer.narrow(dim, low - self._first, high - low)


def discard_planes(buffer: Tensor, dim: int, count: int, held: int) -> None:
    """Move the planes of a rolling buffer forward over its first ``count`` ones, in place.

    Args:
        buffer: The planes, along ``dim``.
        dim: Dimension of ``buffer``.
        count: Planes to forget.
        held: Planes in use before, the forgotten ones among them.
    """
    # In pieces that do not overlap their own source.
    for place in range(0, held - count, max(1, count)) if count else ():
        size = min(count, held - count - place)
        buffer.narrow(dim, place, size).copy_(buffer.narrow(dim, place + count, size))


def mirrored_indices(indices: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """Return the voxels that show at these indices when an axis is mirrored at both faces.

    The face itself is not repeated, and beyond a whole side the image is mirrored again, as in
    ``numpy.pad(mode="reflect")``.
    """
    period = max(1, 2 * (side - 1))
    folded = np.mod(indices, period)
    return np.minimum(folded, period - folded) if side > 1 else np.zeros_like(indices)
