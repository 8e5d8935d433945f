"""An image and its label map, read together in parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError
from volseg.geometry import require_same_grid
from volseg.io.label_map import checked_labels
from volseg.io.stored_volume import StoredVolume
from volseg.io.volume_block import BLOCK_VOXELS, VolumeBlock

Labels = npt.NDArray[np.uint16]


def label_blocks(labels: StoredVolume, voxels: int = BLOCK_VOXELS) -> Iterator[VolumeBlock]:
    """Yield every voxel of a label map once, as uint16.

    Args:
        labels: Of one channel.
        voxels: Values a block may have; it has at least one plane.

    Raises:
        ShapeError: It has several channels.
        InputError: A value is no label.
    """
    if labels.channels != 1:
        raise ShapeError(
            f"{labels.source or 'the label map'} has {labels.channels} channels, expected one."
        )
    for block in labels.blocks(voxels):
        try:
            yield replace(block, values=checked_labels(block.values))
        except InputError as error:
            raise InputError(f"{labels.source or 'the label map'}: {error}") from error


def labelled_blocks(
    image: StoredVolume, labels: StoredVolume, voxels: int = BLOCK_VOXELS
) -> Iterator[tuple[VolumeBlock, Labels]]:
    """Yield every voxel of an image once, with the labels `(x, y, z)` or `(x, y)` of each block.

    A channel of the image comes after the one before, or all of them together. Neither is held as
    a whole where it is not already.

    Args:
        image: Of any channels.
        labels: On the same grid.
        voxels: Values a block may have; it has at least one plane.

    Raises:
        GeometryError: The two lie on different grids.
        InputError: A file is damaged, or a value of the label map is no label.
    """
    what = f"the image {image.source or 'in memory'} and {labels.source or 'its label map'}"
    require_same_grid(image.grid, labels.grid, what=what)
    size = math.prod(image.grid.shape)
    if image.in_memory and not labels.in_memory:
        (whole,) = image.blocks(image.channels * size)
        for block in label_blocks(labels, voxels):
            place = (slice(None), *block.place[1:])
            yield replace(block, channel=whole.channel, values=whole.values[place]), _only(block)
    # A flat volume is cut along one axis in one format and along another in the next.
    elif labels.in_memory or 1 in labels.grid.shape:
        (whole,) = label_blocks(labels, size)
        for block in image.blocks(voxels):
            yield block, _only(whole)[block.place[1:]]
    else:
        walk: Iterator[VolumeBlock] = iter(())
        for block in image.blocks(voxels):
            if block.start == 0:  # of the next channels
                walk = label_blocks(labels, voxels)
            part = next(walk, None)
            if part is None or part.place[1:] != block.place[1:]:
                raise AssertionError("files of one grid are cut alike")
            yield block, _only(part)


def _only(block: VolumeBlock) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = block.values[0]
    return values
