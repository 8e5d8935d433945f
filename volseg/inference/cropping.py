"""Running only the box that holds the body: on the network's grid, and back into the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from volseg.errors import InputError
from volseg.geometry import Affine, Grid, relate_grids
from volseg.inference.restoring import Target, Targets
from volseg.inference.source import SlabSource


@dataclass(frozen=True)
class Box:
    """A part of a grid.

    Attributes:
        start: First voxel, an axis each.
        stop: One past the last.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    def joined(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(tuple(map(min, self.start, other.start)), tuple(map(max, self.stop, other.stop)))

    def grown(self, margin: Sequence[int], sides: Sequence[int]) -> Box:
        """Return the box with so many voxels more at each face, within a grid of these sides."""
        return Box(
            tuple(max(0, a - m) for a, m in zip(self.start, margin, strict=True)),
            tuple(min(n, b + m) for b, m, n in zip(self.stop, margin, sides, strict=True)),
        )

    def grid(self, whole: Grid) -> Grid:
        """Return the grid of the part."""
        shift = np.eye(len(self.start) + 1)
        shift[:-1, -1] = self.start
        return Grid(self.shape, whole.affine @ Affine(shift))


def box_above(values: npt.NDArray[Any], level: float, offset: Sequence[int]) -> Box | None:
    """Return the box of the voxels above a level in any channel; None if there are none.

    Args:
        values: ``(channels, ...)``.
        level: What they must exceed.
        offset: Place of the first voxel, an axis each.
    """
    inside: npt.NDArray[np.bool_] = np.any(values > level, axis=0)
    starts, stops = [], []
    for axis, first in enumerate(offset):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        found = np.flatnonzero(np.any(inside, axis=others))
        if not found.size:
            return None
        starts.append(first + int(found[0]))
        stops.append(first + int(found[-1]) + 1)
    return Box(tuple(starts), tuple(stops))


def box_on_source(box: Box, network: Grid, source: Grid) -> Box:
    """Return the voxels of a source grid that lie between voxels of a box of the network's grid.

    Raises:
        GeometryError: The grids are not related axis by axis.
        InputError: There are none: the box is thinner than a voxel of the source.
    """
    starts, stops = [0] * len(box.start), [0] * len(box.start)
    for axis, sampling in enumerate(relate_grids(network, source)):
        inside = (sampling.lower >= box.start[axis]) & (sampling.upper < box.stop[axis])
        found = np.flatnonzero(inside)
        if not found.size:
            raise InputError(
                f"the box of {box.shape} voxels holds no voxel of {source.describe()}: crop less."
            )
        starts[sampling.target_axis] = int(found[0])
        stops[sampling.target_axis] = int(found[-1]) + 1
    return Box(tuple(starts), tuple(stops))


class CroppedSource:
    """A box of a volume that is read slab by slab."""

    def __init__(self, source: SlabSource, box: Box) -> None:
        self._source = source
        self._box = box

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the sides of the box."""
        return (self._source.shape[0], *self._box.shape)

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return planes of one spatial axis; see `SlabSource`."""
        first = self._box.start[axis]
        found = self._source.read(axis, first + start, first + stop)
        for other, (begin, size) in enumerate(zip(self._box.start, self._box.shape, strict=True)):
            if other != axis:
                found = found.narrow(other + 1, begin, size)
        return found


class _PaddedTarget:
    """A box of a target, as a target of its own; all around it one value a channel.

    Blocks are padded to whole planes of the axis along which they come, so each voxel of the whole
    is written once and in order.
    """

    def __init__(self, whole: Target, box: Box, outside: Sequence[float]) -> None:
        self._whole = whole
        self._box = box
        self._leading = len(whole.shape) - len(box.start)
        self._outside = outside
        self._begun = False
        self.shape = (*whole.shape[: self._leading], *box.shape)
        self.dtype = np.dtype(whole.dtype)

    def __setitem__(self, place: Any, values: Any) -> None:
        bounds = [
            part.indices(side)[:2]
            for part, side in zip(place[self._leading :], self._box.shape, strict=True)
        ]
        whole = [(0, side) for side in self._box.shape]
        cut = next((axis for axis, pair in enumerate(bounds) if pair != whole[axis]), 0)
        first, stop = bounds[cut]
        if not self._begun:
            self._begun = True
            self._write_beyond(cut, stop - first)
        start = self._box.start[cut]
        block = self._plain(cut, stop - first)
        inside = [slice(a, b) for a, b in zip(self._box.start, self._box.stop, strict=True)]
        inside[cut] = slice(None)
        block[tuple([slice(None)] * self._leading + inside)] = values
        self._write(cut, start + first, block)

    def _write_beyond(self, cut: int, planes: int) -> None:
        """Write the planes before and after the box."""
        side = self._whole.shape[self._leading + cut]
        for begin, end in ((0, self._box.start[cut]), (self._box.stop[cut], side)):
            for start in range(begin, end, planes):
                self._write(cut, start, self._plain(cut, min(planes, end - start)))

    def _plain(self, cut: int, planes: int) -> npt.NDArray[Any]:
        """Return whole planes of what lies outside."""
        sides = list(self._whole.shape)
        sides[self._leading + cut] = planes
        values = np.array(self._outside, self.dtype)
        block = np.empty(sides, self.dtype)
        block[...] = values.reshape(-1, *[1] * (len(sides) - 1)) if self._leading else values[0]
        return block

    def _write(self, cut: int, start: int, block: npt.NDArray[Any]) -> None:
        place = [slice(0, side) for side in self._whole.shape]
        place[self._leading + cut] = slice(start, start + block.shape[self._leading + cut])
        self._whole[tuple(place)] = block


def targets_in_box(targets: Targets, box: Box, *, exclusive: bool = True) -> Targets:
    """Return the box of each target; what lies outside becomes background, certain to be so.

    Args:
        targets: What is wanted of the whole.
        box: The part that will be written to the result.
        exclusive: Whether the first channel of probabilities is the background; if channels are
            regions, none is there outside.
    """
    outside = {"probabilities": [0.0]}
    if targets.probabilities is not None:
        classes = targets.probabilities.shape[0]
        outside["probabilities"] = [float(exclusive), *[0.0] * (classes - 1)]
    parts = {
        name: _PaddedTarget(target, box, outside.get(name, [0.0]))
        for name, target in vars(targets).items()
        if target is not None
    }
    return replace(targets, **parts)
