"""Several images as the channels of one, such as T1, T2 and FLAIR: by name, on one grid."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from volseg.errors import GeometryError, InputError, ShapeError, UnknownNameError
from volseg.geometry import Grid, reorientation_onto, require_same_grid
from volseg.io.meta_tensors import further_meta, grid_of, meta_tensor, numpy_values
from volseg.io.reading_options import ReadingOptions
from volseg.io.resampling import resampled
from volseg.io.stored_volume import StoredVolume, volume_in_memory
from volseg.io.volume_block import VolumeBlock, array_blocks

T = TypeVar("T")

_ADVICE = (
    "register and resample one onto the other's grid, or ask for it to be resampled as it lies "
    "(onto_first=True, or --onto-first)"
)

_log = logging.getLogger(__name__)


def in_channel_order(given: Mapping[str, T], names: Sequence[str], what: str) -> dict[str, T]:
    """Return what is given for each channel, under the names and in the order of `names`.

    Args:
        given: by name of a channel, in upper or lower case, in any order.
        names: of the channels.
        what: what has these channels, for messages.

    Raises:
        UnknownNameError: if there is no such channel; the message lists the nearest ones.
        InputError: if a channel is missing or given twice.
    """
    known = {name.casefold(): name for name in names}
    found: dict[str, T] = {}
    for name, value in given.items():
        if name.casefold() not in known:
            raise UnknownNameError(f"channel of {what}", name, names)
        if known[name.casefold()] in found:
            raise InputError(f"the channel {known[name.casefold()]} of {what} is given twice.")
        found[known[name.casefold()]] = value
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{what} takes the channels {', '.join(names)}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: give an image for each."
        )
    return {name: found[name] for name in names}


def require_options_of_channels(reading: ReadingOptions, names: Sequence[str]) -> None:
    """Refuse options for channels that an image does not have.

    Raises:
        UnknownNameError: if there is one.
    """
    known = {name.casefold() for name in names}
    for option, value in reading.items():
        for name in value if isinstance(value, Mapping) else ():
            if name.casefold() not in known:
                raise UnknownNameError(f"channel in {option}", name, names)


def joined_images(images: Mapping[str, MetaTensor], *, onto_first: bool = False) -> MetaTensor:
    """Return images of one channel each as one image (channels, x, y, z), on the first one's grid.

    Args:
        images: by name of the channel, in order.
        onto_first: whether an image on another grid is resampled; it is refused without it.

    Raises:
        InputError: if there is no image.
        ShapeError: if one has several channels.
        GeometryError: if one lies on another grid.
    """
    sources = {name: str(image.meta["filename_or_obj"]) for name, image in images.items()}
    _require_single({name: (int(image.shape[0]), sources[name]) for name, image in images.items()})
    (first_name, first), *_ = images.items()
    grid = grid_of(first)
    values = [
        _on_grid(
            numpy_values(image),
            grid_of(image),
            grid,
            what=_both(first_name, name, sources),
            onto_first=onto_first,
        )
        for name, image in images.items()
    ]
    return meta_tensor(
        np.concatenate(values), grid.affine, sources[first_name], further_meta(first)
    )


def joined_volumes(
    volumes: Mapping[str, StoredVolume], *, onto_first: bool = False
) -> StoredVolume:
    """Return volumes of one channel each as one that is read in parts, on the first one's grid.

    One whose axes run in other directions, or that is resampled, is held in memory.

    Args:
        volumes: by name of the channel, in order.
        onto_first: as for `joined_images`, which raises the same errors.
    """
    sources = {name: volume.source for name, volume in volumes.items()}
    _require_single({name: (one.channels, sources[name]) for name, one in volumes.items()})
    (first_name, first), *_ = volumes.items()
    channels: list[StoredVolume | npt.NDArray[Any]] = []
    for name, volume in volumes.items():
        if not volume.in_memory and _is_same(volume.grid, first.grid):
            channels.append(volume)
            continue
        what = _both(first_name, name, sources)
        values = _on_grid(_whole(volume), volume.grid, first.grid, what=what, onto_first=onto_first)
        channels.append(values)
    held = [one for one in channels if not isinstance(one, StoredVolume)]
    if len(held) == len(channels):
        joined = np.concatenate(held)
        return volume_in_memory(meta_tensor(joined, first.grid.affine, first.source, first.meta))
    last = len(first.grid.shape) - 1

    def walk(voxels: int) -> Iterator[VolumeBlock]:
        for number, channel in enumerate(channels):
            # Files are cut along their last axis, so what is held is, too.
            parts = (
                channel.blocks(voxels)
                if isinstance(channel, StoredVolume)
                else array_blocks(channel, voxels, axis=last)
            )
            with closing(parts) as blocks:
                for block in blocks:
                    yield replace(block, channel=slice(number, number + 1))

    return StoredVolume(first.grid, len(channels), walk, source=first.source, meta=first.meta)


def _require_single(found: Mapping[str, tuple[int, str]]) -> None:
    if not found:
        raise InputError("an image of named channels needs at least one, got none.")
    for name, (number, source) in found.items():
        if number != 1:
            raise ShapeError(
                f"{source or 'the image'} has {number} channels, but is to be the channel {name} "
                "alone: give a file with one image, or one file with all the channels by its path."
            )


def _both(first: str, second: str, sources: Mapping[str, str]) -> str:
    """Return a phrase for two channels, with the files that they come from."""
    named = [f"{name} ({sources[name]})" if sources[name] else name for name in (first, second)]
    return f"the channels {' and '.join(named)}"


def _is_same(grid: Grid, first: Grid) -> bool:
    try:
        require_same_grid(grid, first)
    except GeometryError:
        return False
    return True


def _whole(volume: StoredVolume) -> npt.NDArray[np.float32]:
    values = np.empty((volume.channels, *volume.grid.shape), np.float32)
    for block in volume.blocks():
        values[block.place] = block.values
    return values


def _on_grid(
    values: npt.NDArray[Any], grid: Grid, first: Grid, *, what: str, onto_first: bool
) -> npt.NDArray[Any]:
    """Return values on the grid of the first channel: as they are, turned, or resampled."""
    try:
        turn = reorientation_onto(grid, first, what=what, advice=_ADVICE)
    except GeometryError:
        if not onto_first or len(grid.shape) != len(first.shape):
            raise
        found, covered = resampled(values, grid, first)
    else:
        return np.ascontiguousarray(turn.apply(values))
    if not covered:
        raise GeometryError(
            f"{what} do not overlap: found {first.describe()}, and {grid.describe()}; they may "
            "not be of one examination."
        )
    if covered < 1:
        _log.warning(
            "%s: the second covers %.1f %% of the first, and is its smallest value elsewhere.",
            what,
            100 * covered,
        )
    return found
