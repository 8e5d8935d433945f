"""A volume of which voxels are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Self

import numpy as np

from volseg.geometry import Grid
from volseg.io.meta_tensors import further_meta, grid_of, numpy_values
from volseg.io.volume_block import BLOCK_VOXELS, VolumeBlock, array_blocks


class StoredVolume:
    """A volume of which voxels are read when they are asked for; `open_volume` gives it.

    Leaving its `with` block closes the files of all walks over it.

    Attributes:
        grid: of space, as `grid_of` gives it for the volume in memory.
        channels: number of channels.
        source: path as given; empty for an image that has none.
        meta: further entries of the MetaTensor `read_image` gives, such as `sform_code`.
        in_memory: whether all voxels are held in memory.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int,
        walk: Callable[[int], Iterator[VolumeBlock]],
        *,
        source: str = "",
        meta: dict[str, int | float | str] | None = None,
        in_memory: bool = False,
    ) -> None:
        self.grid = grid
        self.channels = channels
        self.source = source
        self.meta = dict(meta or {})
        self.in_memory = in_memory
        self._walk = walk
        self._walks = ExitStack()

    def __enter__(self) -> Self:
        """Return the volume itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._walks.close()

    def blocks(self, voxels: int = BLOCK_VOXELS) -> Generator[VolumeBlock, None, None]:
        """Yield every voxel once, as float32, in the order of the file; each call starts anew.

        Values are those of `read_image` converted to float32, bit for bit. A channel comes after
        the one before; its blocks are cut along one axis, in NIfTI the last one.

        Args:
            voxels: values a block may have; it has at least one plane.

        Raises:
            InputError: if the file is damaged, which in a compressed file may show at its end only.
        """
        walk = self._float32_blocks(voxels)
        self._walks.enter_context(closing(walk))
        return walk

    def _float32_blocks(self, voxels: int) -> Generator[VolumeBlock, None, None]:
        for block in self._walk(voxels):
            with np.errstate(over="ignore"):  # past the largest float32 is infinity, as in torch
                values = block.values.astype(np.float32, copy=False)
            yield replace(block, values=values)


def volume_in_memory(image: Any) -> StoredVolume:
    """Return a channel-first MetaTensor as a volume that is read in parts."""

    def walk(voxels: int) -> Iterator[VolumeBlock]:
        yield from array_blocks(numpy_values(image), voxels)

    return StoredVolume(
        grid_of(image),
        int(image.shape[0]),
        walk,
        source=str(image.meta["filename_or_obj"]),
        meta=further_meta(image),
        in_memory=True,
    )
