"""A volume in parts: whole planes of some channels, in the order in which they are stored."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

BLOCK_VOXELS = 1 << 22


@dataclass(frozen=True)
class VolumeBlock:
    """Some planes of some channels.

    Attributes:
        channel: the channels.
        axis: spatial axis, from 0, along which the volume is cut; one for all blocks of a walk.
        start: first plane.
        stop: one past the last plane.
        values: (channels of the block, x, y, z) or (channels, x, y), with `stop - start` planes
            along `axis`; possibly a view in the order of the file, and not to be written to.
    """

    channel: slice
    axis: int
    start: int
    stop: int
    values: npt.NDArray[Any]

    @property
    def place(self) -> tuple[slice, ...]:
        """Where the block lies in the array (channels, x, y, z) or (channels, x, y) of all."""
        place = [slice(None)] * self.values.ndim
        place[0] = self.channel
        place[self.axis + 1] = slice(self.start, self.stop)
        return tuple(place)


def array_blocks(
    values: npt.NDArray[Any], voxels: int, axis: int | None = None
) -> Generator[VolumeBlock, None, None]:
    """Yield an array (channels, x, y, z) or (channels, x, y) in C order as views.

    Args:
        values: the array.
        voxels: values a block may have; it has at least one plane.
        axis: spatial axis, from 0, along which it is cut; the first that is longer than one voxel
            without it.
    """
    sides = values.shape[1:]
    if axis is None:
        axis = next((axis for axis, side in enumerate(sides) if side > 1), 0)
    plane = math.prod(sides) // sides[axis]
    for channel, start, stop in cuts(values.shape[0], sides[axis], plane, voxels):
        part = values[channel].swapaxes(1, axis + 1)[:, start:stop].swapaxes(1, axis + 1)
        yield VolumeBlock(channel, axis, start, stop, part)


def cuts(channels: int, planes: int, plane: int, voxels: int) -> Iterator[tuple[slice, int, int]]:
    """Yield the channels, first plane and one past the last plane of blocks, channel by channel.

    Args:
        channels: number of channels, the slowest axis.
        planes: planes of each channel.
        plane: values in a plane.
        voxels: values a block may have; it has at least one plane, and several channels only
            where these fit as a whole.
    """
    count = max(1, voxels // plane)
    together = max(1, count // planes)
    for first in range(0, channels, together):
        channel = slice(first, min(channels, first + together))
        for start in range(0, planes, count):
            yield channel, start, min(planes, start + count)
