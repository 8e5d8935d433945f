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


class _PartOfTarget:
    """A box of a target, as a target of its own."""

    def __init__(self, whole: Target, box: Box) -> None:
        leading = len(whole.shape) - len(box.start)
        self._whole = whole
        self._start = (*[0] * leading, *box.start)
        self.shape = (*whole.shape[:leading], *box.shape)
        self.dtype = whole.dtype

    def __setitem__(self, place: Any, values: Any) -> None:
        moved = []
        for along, side, first in zip(place, self.shape, self._start, strict=True):
            start, stop, _ = along.indices(side)
            moved.append(slice(first + start, first + stop))
        self._whole[tuple(moved)] = values


def targets_in_box(targets: Targets, box: Box) -> Targets:
    """Return the box of each target; what lies outside becomes background, certain to be so.

    The label map is expected to hold zeros already.
    """
    if targets.probabilities is not None:
        for place in _outside(targets.probabilities.shape[1:], box):
            targets.probabilities[(slice(0, 1), *place)] = 1.0
            targets.probabilities[(slice(1, None), *place)] = 0.0
    for target in (targets.entropy, targets.disagreement):
        for place in _outside(target.shape, box) if target is not None else ():
            target[place] = 0.0  # type: ignore[index] # it is not None
    parts = {
        name: _PartOfTarget(target, box)
        for name, target in vars(targets).items()
        if target is not None
    }
    return replace(targets, **parts)


def _outside(sides: Sequence[int], box: Box) -> list[tuple[slice, ...]]:
    """Return planes that together are all but the box, each voxel once."""
    places = []
    for axis, side in enumerate(sides):
        inner = [slice(a, b) for a, b in zip(box.start[:axis], box.stop[:axis], strict=True)]
        later = [slice(0, n) for n in sides[axis + 1 :]]
        planes = [*range(box.start[axis]), *range(box.stop[axis], side)]
        places += [(*inner, slice(plane, plane + 1), *later) for plane in planes]
    return places
