"""An image and its label map as a page shows them: small enough, in grey values and labels."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from volseg.geometry import Affine, Grid
from volseg.io import StoredVolume, labelled_blocks

MOST_VOXELS = 1 << 22
"""Voxels that a page shows at most; of larger volumes every second one, every third and so on."""
_BLOCK_VOXELS = 1 << 21
_COMPRESSION = 6


@dataclass(frozen=True)
class ShownVolume:
    """What a page shows of a case.

    Attributes:
        grid: Of both; 2D as it is.
        steps: Of each axis: how many voxels of the file a voxel is apart from the next.
        image: `(x, y, z)` uint8, or `(x, y)`; the first channel, 0 and 255 being the ends of the
            window.
        labels: Of the same shape, uint16.
        window: Values of the image that become black and white.
    """

    grid: Grid
    steps: tuple[int, ...]
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint16]
    window: tuple[float, float]


def shown_volume(
    image: StoredVolume,
    labels: StoredVolume,
    window: tuple[float, float],
    *,
    most_voxels: int = MOST_VOXELS,
) -> ShownVolume:
    """Return what a page shows; neither volume is held as a whole.

    Args:
        image: Its first channel is shown.
        labels: On the same grid.
        window: Values that become black and white.
        most_voxels: Voxels that are shown at most.

    Raises:
        GeometryError: The two lie on different grids.
        InputError: A file is damaged, or a value of the label map is no label.
    """
    steps = _steps(image.grid, most_voxels)
    sides = [len(range(0, size, step)) for size, step in zip(image.grid.shape, steps, strict=True)]
    grey, shown = np.zeros(sides, np.uint8), np.zeros(sides, np.uint16)
    low, high = window
    for block, part in labelled_blocks(image, labels, _BLOCK_VOXELS):
        if block.channel.start > 0:
            break
        step = steps[block.axis]
        first = -block.start % step
        inside = [slice(None, None, one) for one in steps]
        inside[block.axis] = slice(first, None, step)
        place = [slice(None)] * len(sides)
        start = (block.start + first) // step
        values = block.values[0][tuple(inside)]
        place[block.axis] = slice(start, start + values.shape[block.axis])
        scaled = (np.nan_to_num(values, nan=low) - low) * (255 / ((high - low) or 1))
        grey[tuple(place)] = np.clip(np.rint(scaled), 0, 255)
        shown[tuple(place)] = part[tuple(inside)]
    scale = Affine(np.diag([*map(float, steps), 1.0]))
    return ShownVolume(Grid(tuple(sides), image.grid.affine @ scale), steps, grey, shown, window)


def as_base64(values: npt.NDArray[Any], grid: Grid) -> str:
    """Return a volume ``(x, y, z)`` as the base64 text of a NIfTI file packed with gzip."""
    file = nib.Nifti1Image(values, grid.affine.matrix)
    # Without a time of packing: the same volume gives the same page.
    packed = gzip.compress(file.to_bytes(), _COMPRESSION, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _steps(grid: Grid, most_voxels: int) -> tuple[int, ...]:
    """Return how far apart voxels are taken: as evenly in mm as can be."""
    steps = [1] * len(grid.shape)

    def voxels(of: Sequence[int]) -> int:
        return math.prod(-(-size // step) for size, step in zip(grid.shape, of, strict=True))

    while voxels(steps) > most_voxels:
        several = [axis for axis, size in enumerate(grid.shape) if size > steps[axis]]
        finest = min(several, key=lambda axis: grid.spacing[axis] * steps[axis])
        steps[finest] += 1
    return tuple(steps)
