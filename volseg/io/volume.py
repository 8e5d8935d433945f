"""Volumes that are read in parts, so that a scan of any length passes through little memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from monai.data import MetaTensor

from volseg.geometry import Grid
from volseg.io.convert import as_image
from volseg.io.dicom import (
    DicomOptions,
    PreparedSeries,
    dicom_blocks,
    prepare_dicom,
    read_prepared,
)
from volseg.io.formats import ImageFormat, format_of_input
from volseg.io.meta_tensor import further_meta, grid_of, meta_tensor, numpy_values
from volseg.io.nifti_blocks import nifti_blocks, true_type
from volseg.io.nifti_geometry import nifti_geometry
from volseg.io.nifti_header import open_nifti
from volseg.io.read import read_image
from volseg.io.reading_options import ReadingOptions
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._walks.close()

    def blocks(self, voxels: int = BLOCK_VOXELS) -> Iterator[VolumeBlock]:
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


def open_volume(
    image: MetaTensor | str | os.PathLike[str], **reading: Unpack[ReadingOptions]
) -> StoredVolume:
    """Return a volume that is read in parts.

    Of NIfTI and DICOM only headers are read now; other formats, colour, DICOM series that have to
    be resampled, and images that are already in memory are held there as a whole.

    Args:
        image: path as for `read_image`, or a channel-first MetaTensor.
        **reading: as for `read_image`; used only for a path.

    Raises:
        InputError: if the file is missing, damaged or of an unsupported kind.
        GeometryError: if it does not state where its voxels lie, or contradicts itself.
        MissingPackageError: for DICOM without pydicom.
    """
    if not isinstance(image, (str, os.PathLike)):
        return _volume_in_memory(as_image(image))
    path = Path(image)
    kind = format_of_input(path)
    options = DicomOptions.of(reading)
    if kind is ImageFormat.DICOM:
        return _dicom_volume(prepare_dicom(path, options))
    if kind in (ImageFormat.NIFTI, ImageFormat.NIFTI_PAIR):
        options.require_none(str(path))
        return _nifti_volume(path, reading.get("orientation"))
    return _volume_in_memory(read_image(path, **reading))


def _dicom_volume(series: PreparedSeries) -> StoredVolume:
    if series.is_resampled or series.is_colour:
        stored = read_prepared(series)
        affine = stored.require_affine()
        return _volume_in_memory(meta_tensor(stored.values, affine, stored.source, stored.meta))
    grid, walk = series.opened.grid, partial(dicom_blocks, series.points)
    source = series.opened.source
    return StoredVolume(grid, len(series.points), walk, source=source, meta=series.meta)


def _nifti_volume(path: Path, orientation: str | None) -> StoredVolume:
    file = open_nifti(path)
    true_type(file)  # refuses now what no block could hold
    geometry = nifti_geometry(file.header, file.shape[1:], file.source, orientation)
    grid = Grid(file.shape[1:], geometry.require_affine())
    walk = partial(nifti_blocks, file)
    return StoredVolume(grid, file.shape[0], walk, source=file.source, meta=geometry.meta)


def _volume_in_memory(image: Any) -> StoredVolume:
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
