"""What the network reads, made of a file part by part: one grid, one scale, on the disk.

The same voxels as the transforms of a bundle give in memory (`ReadImaged`, `Regridd`,
`StandardizeIntensityd`), bit for bit, from a volume that may be larger than memory: each part of
the file is brought to the network's grid and laid down in a temporary file, from which the
statistics are taken and the tiles are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose
from torch import Tensor

from volseg.errors import Cancelled, InputError
from volseg.geometry import AxisSampling, Grid, relate_grids
from volseg.inference.cropping import Box, box_above
from volseg.inference.spooled_array import SpooledArray
from volseg.io import ReadImaged, StoredVolume
from volseg.transforms import Regridd, StandardizeIntensityd
from volseg.transforms.regrid import in_target_order, interpolated
from volseg.transforms.standardization import Standardization

_BODY_MARGIN = 10.0  # mm around the body, for the network to see where it ends
BLOCK_VOXELS = 1 << 22  # of the file, and of the statistics, at a time


@dataclass(frozen=True)
class Preparation:
    """How a volume becomes what the network reads.

    Attributes:
        regridding: To which grid; the file's own without it.
        standardization: To which scale; values stay without it.
    """

    regridding: Regridd | None = None
    standardization: Standardization | None = None

    @classmethod
    def of(cls, transforms: Callable[..., Any]) -> Preparation | None:
        """Return what the transforms of a bundle do to its ``image``.

        Returns:
            None if they do anything else than reading, `Regridd` in linear mode and
            `StandardizeIntensityd`, in this order: it then cannot be done part by part.
        """
        steps: list[Any] = []
        if isinstance(transforms, Compose):
            steps = list(transforms.transforms)
        if any(getattr(step, "keys", None) != ("image",) for step in steps):
            return None
        regridding: Regridd | None = None
        standardization: Standardization | None = None
        if not steps or not _reads_float32(steps.pop(0)):
            return None
        if steps and type(steps[0]) is Regridd and steps[0].modes == ("linear",):
            regridding = steps.pop(0)
        if steps and type(steps[0]) is StandardizeIntensityd and steps[0].mask_key is None:
            standardization = steps.pop(0).standardization
        return None if steps else cls(regridding, standardization)

    def same_grid(self, other: Preparation) -> bool:
        """Return whether another brings every file to the same grid."""
        ours, theirs = (
            None if one is None else (one.orientation, one.spacing)
            for one in (self.regridding, other.regridding)
        )
        return ours == theirs

    def grid(self, source: Grid) -> Grid:
        """Return the grid that the network reads a file on."""
        return source if self.regridding is None else self.regridding.target(source)


class PreparedVolume:
    """A volume on the network's grid and scale: a `SlabSource`, to be closed after use.

    Attributes:
        grid: The network's grid.
        body: The part of it that holds the body, if that was asked for.
    """

    def __init__(
        self,
        grid: Grid,
        values: SpooledArray,
        scale: Callable[[Tensor], Tensor],
        body: Box | None = None,
    ) -> None:
        self.grid = grid
        self.body = body
        self._values = values
        self._scale = scale

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the spatial sides in voxels."""
        return self._values.shape

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return planes of one spatial axis, float32; see `SlabSource`."""
        return self._scale(_planes(self._values, axis, start, stop))

    def close(self) -> None:
        """Remove what lies on the disk."""
        self._values.close()

    def __enter__(self) -> Self:
        """Return the volume."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what lies on the disk."""
        self.close()


def prepare_volume(
    volume: StoredVolume,
    preparation: Preparation,
    *,
    axis: int,
    block_voxels: int = BLOCK_VOXELS,
    body_above: float | None = None,
    folder: Path | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PreparedVolume:
    """Bring a volume to the network's grid and scale, part by part.

    Args:
        volume: The file.
        preparation: What is done to it.
        axis: Spatial axis of the network's grid along which it will be read.
        block_voxels: Voxels taken at a time, at least a plane.
        body_above: Find the box of the voxels above this value, as in the file (in CT in HU), with
            a centimetre around it.
        folder: Where the temporary file lies; the system's temporary folder if not given.
        cancelled: Asked between parts; ``True`` raises `Cancelled`.

    Raises:
        InputError: The file is damaged, its values cannot be standardised, or none is above
            ``body_above``.
        OutputError: There is no room for the temporary file.
        Cancelled: ``cancelled()`` was true.
    """
    target = preparation.grid(volume.grid)
    side = target.shape[axis]
    with ExitStack() as cleanup:
        laid = _LaidDown(volume, target, axis, body_above, folder)
        cleanup.callback(laid.close)
        for part in _regridded(volume, relate_grids(volume.grid, target), block_voxels):
            _ask(cancelled)
            laid.add(*part)
        values = laid.values

        def parts() -> Iterator[Tensor]:
            """Go over the volume on the network's grid."""
            planes = max(1, block_voxels * side // math.prod(values.shape))
            for start in range(0, side, planes):
                _ask(cancelled)
                yield _planes(values, axis, start, min(start + planes, side))

        scale: Callable[[Tensor], Tensor] = _as_it_is
        if preparation.standardization is not None:
            try:
                scale = preparation.standardization.fitted(parts)
            except InputError as error:
                raise InputError(f"{volume.source or 'the image'}: {error}") from error
        prepared = PreparedVolume(target, values, scale, laid.body())
        cleanup.pop_all()  # from here on it closes what was laid down
        return prepared


class _LaidDown:
    """The volume on the network's grid, on the disk, to be read along an axis."""

    def __init__(
        self,
        volume: StoredVolume,
        grid: Grid,
        axis: int,
        body_above: float | None,
        folder: Path | None,
    ) -> None:
        self._name = volume.source or "the image"
        self._shape = (volume.channels, *grid.shape)
        self._margin = [math.ceil(_BODY_MARGIN / spacing) for spacing in grid.spacing]
        self._axis = axis
        self._body_above = body_above
        self._box: Box | None = None
        self._folder = folder
        self._values: SpooledArray | None = None

    @property
    def values(self) -> SpooledArray:
        """What was laid down: ``(channels, ...)``."""
        assert self._values is not None  # a grid has at least one voxel
        return self._values

    def add(self, cut: int, place: Sequence[slice], part: npt.NDArray[np.float32]) -> None:
        """Lay down a part; ``cut`` is the axis along which parts come."""
        if self._values is None:
            # What comes in slabs of another axis than the first is laid down in few pieces if
            # that axis is the next.
            axes = dict.fromkeys([self._axis + 1, 0, cut + 1, *range(1, len(self._shape))])
            self._values = SpooledArray(
                self._shape, np.float32, order=list(axes), folder=self._folder
            )
        self._values[tuple(place)] = part
        if self._body_above is not None:
            offset = [along.start or 0 for along in place[1:]]
            found = box_above(part, self._body_above, offset)
            if found is not None:
                self._box = found if self._box is None else self._box.joined(found)

    def body(self) -> Box | None:
        """Return the box of the body, if it was to be found.

        Raises:
            InputError: There is none.
        """
        if self._body_above is None:
            return None
        if self._box is None:
            raise InputError(
                f"{self._name} has no voxel above {self._body_above:g}, so there is no body to "
                "crop to: give a value between those of the background and of the body."
            )
        return self._box.grown(self._margin, self._shape[1:])

    def close(self) -> None:
        """Remove what was laid down."""
        if self._values is not None:
            self._values.close()


def _regridded(
    volume: StoredVolume, samplings: tuple[AxisSampling, ...], voxels: int
) -> Iterator[tuple[int, tuple[slice, ...], npt.NDArray[np.float32]]]:
    """Yield the axis that is cut, where a part lies in the target grid, and its values."""
    held: npt.NDArray[Any] | None = None  # the last plane of the block before
    for block in volume.blocks(voxels):
        along = block.axis + 1
        if block.start == 0:
            held = None
        values = block.values if held is None else np.concatenate([held, block.values], along)
        first_plane = block.stop - values.shape[along]
        sampling = samplings[block.axis]
        found = np.flatnonzero((sampling.upper >= block.start) & (sampling.upper < block.stop))
        if found.size:
            first, last = int(found[0]), int(found[-1]) + 1
            part = replace(
                sampling,
                lower=sampling.lower[first:last] - first_plane,
                upper=sampling.upper[first:last] - first_plane,
                weight=sampling.weight[first:last],
            )
            all_axes = [part if s is sampling else s for s in samplings]
            ordered = sorted(all_axes, key=lambda s: s.target_axis)
            place = [block.channel, *[slice(None)] * len(samplings)]
            place[1 + sampling.target_axis] = slice(first, last)
            yield (
                sampling.target_axis,
                tuple(place),
                interpolated(in_target_order(values, samplings), ordered),
            )
        held = np.take(values, [-1], along)


def _planes(values: SpooledArray, axis: int, start: int, stop: int) -> Tensor:
    part = (*[slice(None)] * (axis + 1), slice(start, stop))
    return torch.from_numpy(values[part])


def _as_it_is(part: Tensor) -> Tensor:
    return part


def _ask(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled("the run was cancelled while the image was prepared.")


def _reads_float32(step: object) -> bool:
    return (
        type(step) is ReadImaged
        and step.types == (torch.float32,)
        and not any(step.reading.values())
    )
