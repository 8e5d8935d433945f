"""A label map, in memory or on disk, as slabs of whole planes along its slowest axis.

The loops see a block `(planes, rows, columns)` in C order whatever the map is: a NumPy array in C
or Fortran order, a memory map, an array of Zarr or HDF5; in 2D a row is a plane of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

# Small enough that the tables of the worst slab (noise: a run a voxel) take a hundred megabytes,
# large enough that the faces between slabs cost nothing.
_SLAB_VOXELS = 1 << 22


@runtime_checkable
class ArrayOnDisk(Protocol):
    """What is asked of an array that is not in memory: Zarr, HDF5, `numpy.memmap`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""

    def __getitem__(self, index: Any) -> Any:
        """Read a part, given as a tuple of slices."""

    def __setitem__(self, index: Any, values: Any) -> None:
        """Write a part."""


@dataclass(frozen=True)
class Slabs:
    """How a label map is cut: the order of its axes, and where each slab starts."""

    shape: tuple[int, ...]
    """Shape of the label map."""
    order: tuple[int, ...]
    """Axes of the map from the slowest to the fastest; the first one is cut."""
    bounds: tuple[int, ...]
    """First plane of each slab, and the number of planes."""

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """Planes, rows and columns of the whole map."""
        return self._as_block([self.shape[axis] for axis in self.order], 1)

    @property
    def block_strides(self) -> tuple[int, int, int]:
        """How many voxels one step along planes, rows, columns is, in index order of the map."""
        steps = [math.prod(self.shape[axis + 1 :]) for axis in self.order]
        return self._as_block(steps, 0)

    def to_block(self, values: Iterable[float], filler: float = 1.0) -> tuple[float, float, float]:
        """Return values given for the axes of the map (a spacing) for planes, rows, columns."""
        values = tuple(values)
        return self._as_block([values[axis] for axis in self.order], filler)

    def _as_block(self, values: list[Any], filler: Any) -> tuple[Any, Any, Any]:
        first, *middle, last = values
        return (first, *(middle or [filler]), last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the first plane and the plane after the last of each slab."""
        return pairwise(self.bounds)

    def __len__(self) -> int:
        """Return the number of slabs."""
        return len(self.bounds) - 1

    def read(self, labels: Any, start: int, stop: int) -> npt.NDArray[Any]:
        """Return planes as a block; a view where the map's memory already is one."""
        part = np.asarray(labels[self._index(start, stop)]).transpose(self.order)
        if part.dtype.kind == "b":
            part = part.view(np.uint8)
        part = np.ascontiguousarray(part.astype(part.dtype.newbyteorder("="), copy=False))
        return part.reshape(part.shape[0], -1, part.shape[-1]) if part.ndim == 3 else part[:, None]

    def room(self, labels: Any, start: int, stop: int) -> npt.NDArray[Any]:
        """Return a block to be filled and written: like `read`, but its values mean nothing."""
        if isinstance(labels, np.ndarray):
            return self.read(labels, start, stop)
        dtype = np.dtype(np.uint8) if labels.dtype.kind == "b" else labels.dtype.newbyteorder("=")
        return np.empty((stop - start, *self.block_shape[1:]), dtype=dtype)

    def write(self, labels: Any, start: int, block: npt.NDArray[Any]) -> None:
        """Write a block back; nothing is copied where the block is a view of the map."""
        if isinstance(labels, np.ndarray) and np.may_share_memory(labels, block):
            return
        sizes = [block.shape[0], *(self.shape[axis] for axis in self.order[1:])]
        part = block.reshape(sizes).transpose(np.argsort(self.order))
        labels[self._index(start, start + block.shape[0])] = part

    def _index(self, start: int, stop: int) -> tuple[slice, ...]:
        index = [slice(None)] * len(self.shape)
        index[self.order[0]] = slice(start, stop)
        return tuple(index)


def cut_into_slabs(labels: Any, planes: int | None, *, at_least: int = 1) -> Slabs:
    """Return how to walk through a label map in the order in which it is stored.

    Args:
        labels: Array in memory or on disk.
        planes: Planes a slab; without it about four million voxels (whole chunks on disk).
        at_least: Planes a slab has, if they are not given.
    """
    shape = tuple(labels.shape)
    order = tuple(range(len(shape)))
    chunk = 1
    if isinstance(labels, np.ndarray):
        # Stable, so that axes of one voxel, whose strides mean nothing, stay where they are.
        order = tuple(np.argsort([-abs(step) for step in labels.strides], kind="stable").tolist())
    elif getattr(labels, "chunks", None):
        cuts = [math.ceil(n / size) for n, size in zip(shape, labels.chunks, strict=True)]
        slowest = int(np.argmax(cuts))
        order = (slowest, *(axis for axis in order if axis != slowest))
        chunk = int(labels.chunks[slowest])
    length = shape[order[0]]
    if planes is None:
        planes = max(at_least, _SLAB_VOXELS * length // math.prod(shape))
        planes = math.ceil(planes / chunk) * chunk
        if planes < length <= 2 * planes:  # two threads are better served by halves
            planes = math.ceil(length / 2)
    bounds = (*range(0, length, planes), length)
    return Slabs(shape, order, bounds)


Task = TypeVar("Task")
Result = TypeVar("Result")


def parts_at_once(threads: int) -> int:
    """Return how many tasks `in_threads` holds at most: one a thread, and one that waits."""
    return 1 if threads == 1 else threads + 1


def in_threads(tasks: Iterable[Task], work: Callable[[Task], Result]) -> Iterator[Result]:
    """Yield the result of each task in order; the compiled loops of several run at a time.

    The tasks are taken from their iterable in the calling thread, no more ahead than there are
    threads: memory stays bounded, and files are read by one thread.
    """
    threads = torch.get_num_threads()
    remaining = iter(tasks)
    first = list(islice(remaining, 2))
    if threads == 1 or len(first) < 2:
        yield from map(work, chain(first, remaining))
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for task in chain(first, remaining):
            waiting.append(pool.submit(work, task))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
