"""Values on their way to a file: blocks come as they are computed, planes leave as files want them.

A volume is computed in slabs along whichever axis needs least memory, and a NIfTI file has its last
axis slowest. Writing slabs of another axis to their place would be a write for every row of voxels.
Instead the file is divided into groups of planes of the last axis; within a group the axis of the
slabs is slowest, so that a slab is one write in each group, and a group, which fits into memory, is
turned at the end: on the spot, or on the way to another file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.atomic import reserve, writing_to
from volseg.errors import OutputError, ShapeError
from volseg.io.memory_order import copy_in_tiles, first_axis_fastest

_GROUP_BYTES = 1 << 24


class BlockSpool:
    """Float32 values (channels, x, y, z) or (channels, x, y) in a file, zero where none are set.

    Args:
        stream: file open for reading and writing.
        shape: channels, then the spatial sides in voxels.
        target: what the values are on their way to, which errors name.
        offset: bytes of the file before the values.

    Raises:
        OutputError: if there is no room for all of it, or it cannot be written to.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, stream: BufferedRandom, shape: Sequence[int], target: Path, offset: int = 0
    ) -> None:
        self.shape = tuple(shape)
        self._target = target
        self._stream = stream
        self._offset = offset
        self._plane = math.prod(self.shape[1:-1]) * self.dtype.itemsize
        self._depth = max(1, _GROUP_BYTES // self._plane)
        self._dims = len(self.shape) - 1
        # Spatial axes within a group, slowest first; the first block decides.
        self._order: tuple[int, ...] | None = None
        _reserve(stream, offset + self.shape[0] * self.shape[-1] * self._plane, target)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is best read at a time."""
        return (1, *self.shape[1:-1], min(self._depth, self.shape[-1]))

    def __setitem__(self, place: tuple[slice, ...], values: Any) -> None:
        """Set a block.

        Args:
            place: a slice for each axis; best all blocks are cut along one and the same.
            values: an array of that shape.

        Raises:
            ShapeError: if the place is none, or not of whole neighbouring planes.
            OutputError: if writing fails.
        """
        bounds = self._bounds(place)
        shape = [stop - start for start, stop in bounds]
        if 0 in shape:
            return
        block = np.broadcast_to(np.asarray(values, dtype=self.dtype), shape)
        if self._order is None:
            self._order = self._order_for(bounds[1:])
        *beside, (first, last) = bounds[1:]
        with writing_to(self._target):
            for channel, channel_values in zip(range(*bounds[0]), block, strict=True):
                for group in self._groups(first, last):
                    start, stop = max(first, group.start), min(last, group.stop)
                    part = channel_values[..., start - first : stop - first]
                    along = (start - group.start, stop - group.start)
                    self._write(channel, group, [*beside, along], part)

    def __getitem__(self, place: tuple[slice, ...]) -> npt.NDArray[np.float32]:
        """Return planes of the last axis, of some channels."""
        bounds = self._bounds(place)
        channels, (first, last) = range(*bounds[0]), bounds[-1]
        # In the order of files, as it is when a whole group of a channel is asked for.
        planes = np.empty((len(channels), last - first, *self.shape[-2:0:-1]), self.dtype)
        found = planes.transpose(0, *range(self._dims, 0, -1))
        for index, channel in enumerate(channels):
            for group in self._groups(first, last):
                start, stop = max(first, group.start), min(last, group.stop)
                values = self._read(channel, group)[..., start - group.start : stop - group.start]
                copy_in_tiles(found[index, ..., start - first : stop - first], values)
        return found[(slice(None), *place[1:-1])]

    def turn(self) -> None:
        """Bring the file into the order of NIfTI, the first axis fastest."""
        if self._order in (None, self._file_order):
            return
        with writing_to(self._target):
            for channel in range(self.shape[0]):
                for group in self._groups(0, self.shape[-1]):
                    values = first_axis_fastest(self._read(channel, group))
                    self._stream.seek(self._position(channel, group))
                    self._stream.write(values.T.data)
        self._order = self._file_order

    @property
    def _file_order(self) -> tuple[int, ...]:
        return tuple(range(self._dims - 1, -1, -1))

    def _order_for(self, bounds: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Return the order of axes that suits blocks of these bounds."""
        for axis in range(self._dims - 1):
            if bounds[axis] != (0, self.shape[axis + 1]):
                return (axis, *(other for other in range(self._dims) if other != axis))
        return self._file_order

    def _bounds(self, place: tuple[slice, ...]) -> list[tuple[int, int]]:
        if len(place) != len(self.shape):
            raise ShapeError(f"expected a slice for each axis of {self.shape}, got {place}.")
        bounds = []
        for part, side in zip(place, self.shape, strict=True):
            start, stop, step = part.indices(side)
            if step != 1:
                raise ShapeError(f"expected slices without a step, got {place}.")
            bounds.append((start, max(start, stop)))
        return bounds

    def _groups(self, first: int, last: int) -> Iterator[range]:
        """Yield the groups of planes that hold the planes from ``first`` to ``last``."""
        for start in range(first - first % self._depth, last, self._depth):
            yield range(start, min(start + self._depth, self.shape[-1]))

    def _position(self, channel: int, group: range) -> int:
        return self._offset + (channel * self.shape[-1] + group.start) * self._plane

    def _read(self, channel: int, group: range) -> npt.NDArray[np.float32]:
        """Return a group (x, y, planes) as it lies in the file."""
        order = self._order or self._file_order
        sides = (*self.shape[1:-1], len(group))
        stored = np.empty([sides[axis] for axis in order], self.dtype)
        self._stream.seek(self._position(channel, group))
        self._stream.readinto(stored.data)
        return stored.transpose(np.argsort(order))

    def _write(
        self,
        channel: int,
        group: range,
        bounds: Sequence[tuple[int, int]],
        values: npt.NDArray[np.float32],
    ) -> None:
        """Write a part of a group, which has these bounds in it."""
        order = self._order or self._file_order
        sides = (*self.shape[1:-1], len(group))
        slowest, *others = order
        if any(bounds[axis] != (0, sides[axis]) for axis in others):
            whole = self._read(channel, group)
            whole[tuple(slice(*bound) for bound in bounds)] = values
            bounds, values = [(0, side) for side in sides], whole
        before = bounds[slowest][0] * math.prod(sides[axis] for axis in others)
        self._stream.seek(self._position(channel, group) + before * self.dtype.itemsize)
        if order == self._file_order:
            self._stream.write(first_axis_fastest(values).T.data)
        else:
            self._stream.write(np.ascontiguousarray(values.transpose(order)).data)


def _reserve(stream: BufferedRandom, size: int, target: Path) -> None:
    """Bring a file to its size in zeros, so that a full disk shows now and not hours later."""
    try:
        stream.flush()
        reserve(stream, size)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: no room for {size / 2**20:.0f} MiB in {target.parent} "
            f"({error.strerror or error}); free space or choose another place."
        ) from error
