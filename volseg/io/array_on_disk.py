"""Arrays that are too large to be in memory, read a few planes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

_SLAB_BYTES = 1 << 24


@runtime_checkable
class ReadableArray(Protocol):
    """An array of which parts can be read: NumPy, a memory map, Zarr, HDF5."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""

    @property
    def dtype(self) -> Any:
        """Type of an element."""

    def __getitem__(self, place: Any, /) -> Any:
        """Read a part, given as a tuple of slices."""


def is_on_disk(array: Any) -> bool:
    """Return whether an array is better read in parts: it is none of NumPy or torch."""
    return isinstance(array, ReadableArray) and not isinstance(array, (np.ndarray, torch.Tensor))


def slabs(array: ReadableArray) -> Iterator[npt.NDArray[Any]]:
    """Yield an array (channels, ...) channel by channel, cut along the last axis.

    Each slab is (1, ...) and about 16 MB; of an array in chunks it ends where a chunk does, if
    one is not larger.
    """
    channels, *space, length = array.shape
    plane = int(np.prod(space)) * np.dtype(array.dtype).itemsize
    count = max(1, _SLAB_BYTES // plane)
    chunks = getattr(array, "chunks", None)
    if chunks and count > chunks[-1]:
        count -= count % chunks[-1]
    for channel in range(channels):
        for start in range(0, length, count):
            beside = [slice(channel, channel + 1), *(slice(None) for _ in space)]
            yield np.asarray(array[(*beside, slice(start, min(length, start + count)))])
