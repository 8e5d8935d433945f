"""An array in a temporary file, for what is written in one order and read in another.

Parts go through plain reads and writes, not through a memory map: pages of a map that was touched
count as memory of the process until it is closed.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from volseg.atomic import reserve
from volseg.errors import OutputError


class SpooledArray:
    """An array ``shape`` in a file that is gone when the array is closed; zeros at first.

    Parts are given as tuples of slices of step one, as in ``array[:, 3:7]``. Those are fast that
    are whole along the fastest axes of the file.

    Args:
        shape: Sides of the array.
        dtype: Type of its elements.
        order: Axes from the slowest to the fastest in the file; as they are if not given.
        folder: Where the file lies; the system's temporary folder if not given.

    Raises:
        OutputError: The file cannot be made, or there is no room for it.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        order: Sequence[int] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.order = tuple(range(len(self.shape))) if order is None else tuple(order)
        self._sides = [self.shape[axis] for axis in self.order]
        try:
            with ExitStack() as unfinished:
                self._file = unfinished.enter_context(
                    tempfile.TemporaryFile(buffering=0, dir=folder)
                )
                reserve(self._file, self.nbytes)
                unfinished.pop_all()
        except OSError as error:
            raise _no_room(self, folder, error) from error

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """The parts that lie together: planes of the slowest axis."""
        return tuple(1 if axis == self.order[0] else side for axis, side in enumerate(self.shape))

    def __getitem__(self, part: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a part as a new array."""
        ranges = self._ranges(part)
        sides = [stop - start for start, stop in ranges]
        found = np.empty(sides, self.dtype)
        rows = found.reshape(-1).view(np.uint8)
        place = 0
        for offset, size in self._runs(ranges):
            self._file.seek(offset)
            room = memoryview(rows[place : place + size].data)
            while room:  # a single read returns at most 2 GiB
                count = self._file.readinto(room)
                if not count:
                    raise OutputError("a temporary file became shorter while it was in use.")
                room = room[count:]
            place += size
        return found.transpose(np.argsort(self.order))

    def __setitem__(self, part: tuple[slice, ...], values: npt.ArrayLike) -> None:
        """Write a part.

        Raises:
            OutputError: The disk is full.
        """
        ranges = self._ranges(part)
        shape = [ranges[self.order.index(axis)] for axis in range(self.ndim)]
        whole = np.broadcast_to(np.asarray(values), [stop - start for start, stop in shape])
        block = np.ascontiguousarray(whole.transpose(self.order), self.dtype)
        rows = block.reshape(-1).view(np.uint8)
        place = 0
        for offset, size in self._runs(ranges):
            room = memoryview(rows[place : place + size].data)
            try:
                self._file.seek(offset)
                while room:
                    room = room[self._file.write(room) :]
            except OSError as error:
                raise _no_room(self, None, error) from error
            place += size

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the array."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self.close()

    def _ranges(self, part: tuple[slice, ...]) -> list[tuple[int, int]]:
        """Return start and stop of a part along each axis, slowest first."""
        given = part if isinstance(part, tuple) else (part,)
        slices = (*given, *[slice(None)] * (self.ndim - len(given)))
        ranges = []
        for axis in self.order:
            start, stop, step = slices[axis].indices(self.shape[axis])
            if step != 1:
                raise IndexError(f"parts of a spooled array have step 1, got {slices[axis]}")
            ranges.append((start, max(start, stop)))
        return ranges

    def _runs(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield offset and size in bytes of the pieces of the file that a part consists of."""
        split = len(ranges) - 1
        while split and ranges[split] == (0, self._sides[split]):
            split -= 1
        steps = [math.prod(self._sides[axis + 1 :]) for axis in range(len(ranges))]
        start, stop = ranges[split]
        size = (stop - start) * steps[split] * self.dtype.itemsize
        if not size:
            return
        for leading in itertools.product(*(range(*bounds) for bounds in ranges[:split])):
            first = sum(index * step for index, step in zip(leading, steps, strict=False))
            yield (first + start * steps[split]) * self.dtype.itemsize, size


def _no_room(array: SpooledArray, folder: Path | None, error: OSError) -> OutputError:
    place = folder or tempfile.gettempdir()
    return OutputError(
        f"a temporary file of {array.nbytes / 2**20:.0f} MiB cannot be written in {place} "
        f"({error.strerror or error}): free some space, or set TMPDIR to a folder that has it."
    )
