"""True values of the frames of a volume, decoded in several threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.io.dicom.decoding import (
    decode_frames,
    is_plain,
    is_random_access,
    read_plain,
    without_unused_bits,
)
from volseg.io.dicom.frames import Frame, PixelFormat
from volseg.io.memory_order import copy_in_tiles
from volseg.io.stored_image import within_memory
from volseg.job_limits import usable_processors

Values = npt.NDArray[Any]

# Slices that are decoded, then turned at once: enough that the last axis, along them, is written
# in whole cache lines, and so few that they are still in the cache.
_SLAB = 32
_SLAB_BYTES = 1 << 25  # at most, of large pictures


@dataclass(frozen=True)
class _Place:
    """A frame and where it goes; a colour image goes to all channels."""

    channel: int
    slice: int
    frame: Frame


@dataclass
class _Filling:
    """An array (channels, columns, rows, slices) that is being filled.

    Attributes:
        values: the array.
        is_scaled: whether slope and intercept are applied on the way.
        offset: what is else added on the way, in the type of the values: it may wrap around.
        lows: smallest values before that, if they are whole numbers.
        highs: largest values before that, if they are whole numbers.
    """

    values: Values
    is_scaled: bool
    offset: Values
    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)


class _Slab:
    """Neighbouring slices on their way into the array: in one by one, and turned at once.

    Args:
        values: the array.
        stored: format of the frames.
    """

    def __init__(self, values: Values, stored: PixelFormat) -> None:
        shape = (stored.rows, stored.columns) + ((3,) if stored.channels > 1 else ())
        bytes_each = math.prod(shape) * values.itemsize
        count = max(1, min(_SLAB, values.shape[-1], _SLAB_BYTES // bytes_each))
        self._values = values
        self._planes = np.empty((count, *shape), values.dtype)
        self._places: list[_Place] = []

    def room_for(self, place: _Place) -> Values:
        """Return where the next slice goes, (rows, columns) or (rows, columns, 3)."""
        places = self._places
        if places and not (len(places) < len(self._planes) and _follows(place, places[-1])):
            self.put()
        self._places.append(place)
        plane: Values = self._planes[len(self._places) - 1]
        return plane

    def put(self) -> None:
        """Put the slices into the array."""
        if not self._places:
            return
        first, count = self._places[0], len(self._places)
        planes, values = self._planes[:count], self._values
        along = slice(first.slice, first.slice + count)
        if planes.ndim == 4:
            for colour in range(3):
                copy_in_tiles(values[colour, ..., along], planes[..., colour].T)
        else:
            copy_in_tiles(values[first.channel, ..., along], planes.T)
        self._places = []


def true_values(points: Sequence[Sequence[Frame]]) -> Values:
    """Return (channels, columns, rows, slices) true values of the frames of a volume.

    Slope and intercept are those of each frame. Whole numbers stay whole, signed unless they have
    8 bits, in the narrowest type that holds them and is as wide as the stored one; others become
    float32, from more than 16 stored bits float64.

    Args:
        points: frames by time point and slice, all of one size; time points or, of one time
            point, colours become channels.

    Raises:
        InputError: if there is time and colour, or pixels are damaged, compressed in a way
            nothing here can decode, or too many for the memory.
    """
    frames = [frame for point in points for frame in point]
    stored = frames[0].format
    if stored.channels > 1 and len(points) > 1:
        raise InputError(
            f"cannot read {frames[0].path}: its series has {len(points)} time points in colour, "
            "which leaves no axis for the channels; expected one of the two."
        )
    kind, is_scaled = _type_in_memory(frames)
    shape = (max(stored.channels, len(points)), stored.columns, stored.rows, len(points[0]))
    offset = 0 if is_scaled or stored.channels > 1 else int(frames[0].intercept)
    with within_memory(str(frames[0].path)):
        filling = _Filling(np.empty(shape, kind), is_scaled, _wrapped(offset, kind))
        _in_threads([partial(_fill, filling, part) for part in _parts(points)])
        return filling.values if kind.kind == "f" else _narrowest(filling, offset, frames[0])


def _type_in_memory(frames: Sequence[Frame]) -> tuple[np.dtype[Any], bool]:
    """Return the type while values are read, and whether they are scaled on the way to it."""
    stored = frames[0].format
    if stored.channels > 1:
        is_narrow = stored.samples > 1 and stored.bits_allocated <= 8
        return np.dtype(np.uint8 if is_narrow else np.uint16), False
    types = {frame.format.value_type for frame in frames}
    widest = max(types, key=lambda kind: kind.itemsize)
    if any(frame.format.table is not None for frame in frames):
        return np.dtype(np.int64), True
    is_whole = all(frame.slope == 1.0 and frame.intercept.is_integer() for frame in frames)
    if stored.is_float or not is_whole:
        few_bits = widest.itemsize <= (4 if stored.is_float else 2)
        return np.dtype(np.float32 if few_bits else np.float64), True
    if len(types) > 1 or len({frame.intercept for frame in frames}) > 1:
        return np.dtype(np.int64), True
    return widest, False


def _parts(points: Sequence[Sequence[Frame]]) -> Iterator[list[_Place]]:
    """Yield the frames in parts for one thread each: some slices, or those of one file."""
    whole_files: dict[Path, list[_Place]] = {}
    for channel, point in enumerate(points):
        places = [_Place(channel, number, frame) for number, frame in enumerate(point)]
        size = min(_SLAB, -(-len(places) // usable_processors()))
        for start in range(0, len(places), size):
            part = places[start : start + size]
            yield [place for place in part if is_random_access(place.frame)]
            for place in part:
                if not is_random_access(place.frame):
                    whole_files.setdefault(place.frame.path, []).append(place)
    yield from whole_files.values()


def _fill(filling: _Filling, places: Sequence[_Place]) -> None:
    """Decode frames into their places."""
    if not places:
        return
    slab = _Slab(filling.values, places[0].frame.format)
    for _, of_file in groupby(places, key=lambda place: place.frame.path):
        for frame, stored, room in _decoded(list(of_file), slab, filling):
            values = without_unused_bits(stored, frame)
            if filling.is_scaled:
                room[...] = _scaled(values, frame, room.dtype)
                values = room
            if values.dtype.kind != "f":
                filling.lows.append(int(values.min()))
                filling.highs.append(int(values.max()))
            if values is not room or filling.offset:
                np.add(values, filling.offset, out=room, casting="unsafe")
    slab.put()


def _decoded(
    places: Sequence[_Place], slab: _Slab, filling: _Filling
) -> Iterator[tuple[Frame, Values, Values]]:
    """Yield frames of one file, their stored values, and the room for what becomes of these.

    Plain values of the right type are read into the room itself.
    """
    frames = [place.frame for place in places]
    if not is_plain(frames[0]):
        decoded = decode_frames(frames)
        for place, stored in zip(places, decoded, strict=True):
            yield place.frame, stored, slab.room_for(place)
        return
    for place in places:
        room = slab.room_for(place)
        stored = room
        if filling.is_scaled:
            stored = np.empty(room.shape, place.frame.format.value_type)
        read_plain(place.frame, stored)
        yield place.frame, stored, room


def _scaled(values: Values, frame: Frame, kind: np.dtype[Any]) -> Values:
    if frame.format.table is not None:
        return frame.format.table.apply(values)
    if kind.kind == "i":
        return values.astype(np.int64) + int(frame.intercept)
    if frame.slope == 1.0 and frame.intercept == 0.0:
        return values
    return values.astype(np.float64) * frame.slope + frame.intercept


def _follows(place: _Place, other: _Place) -> bool:
    return (place.channel, place.slice) == (other.channel, other.slice + 1)


def _narrowest(filling: _Filling, offset: int, frame: Frame) -> Values:
    """Return whole numbers, to which the offset was added, in a type that torch computes with."""
    values = filling.values
    low, high = min(filling.lows) + offset, max(filling.highs) + offset
    width = 1 if filling.is_scaled else values.dtype.itemsize
    for kind in map(np.dtype, ("u1", "i1", "i2", "i4", "i8")):
        limits: Any = np.iinfo(kind)
        if kind.itemsize < width or low < limits.min or high > limits.max:
            continue
        if kind.itemsize == values.dtype.itemsize:
            return values.view(kind)
        if offset:  # it has wrapped around in a type too narrow for the sum
            values -= filling.offset
        return values.astype(kind) + _wrapped(offset, kind) if offset else values.astype(kind)
    raise InputError(
        f"cannot read {frame.path}: its values reach {high}, past the largest supported one, "
        f"{np.iinfo(np.int64).max}; rescale it first."
    )


def _wrapped(offset: int, kind: np.dtype[Any]) -> Values:
    """Return a whole number in a type that may be too narrow for it."""
    return np.array(offset % (1 << 64), np.uint64).astype(kind)


def _in_threads(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks in as many threads as there are cores; the first error ends it."""
    with ThreadPoolExecutor(usable_processors()) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
