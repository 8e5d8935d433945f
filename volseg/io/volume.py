"""Volumes that are read in parts, so that a scan of any length passes through little memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from monai.data import MetaTensor

from volseg.geometry import Grid
from volseg.io.channels import joined_volumes, require_options_of_channels
from volseg.io.convert import as_image
from volseg.io.dicom import (
    DicomOptions,
    PreparedSeries,
    dicom_blocks,
    prepare_dicom,
    read_prepared,
)
from volseg.io.dicom.segmentations import kind_of_segmentation
from volseg.io.formats import ImageFormat, format_of_input
from volseg.io.meta_tensors import meta_tensor
from volseg.io.nifti_blocks import nifti_blocks, true_type
from volseg.io.nifti_geometry import nifti_geometry
from volseg.io.nifti_header import NiftiFile, open_nifti
from volseg.io.read import read_image
from volseg.io.reading_options import (
    ImagePath,
    ReadingOptions,
    reading_of_channel,
    reading_of_file,
)
from volseg.io.stored_volume import StoredVolume, volume_in_memory


def open_volume(
    image: MetaTensor | ImagePath | Mapping[str, Any], **reading: Unpack[ReadingOptions]
) -> StoredVolume:
    """Return a volume that is read in parts.

    Of NIfTI and DICOM only headers are read now; other formats, colour, DICOM series that have to
    be resampled, DICOM SEG, channels that do not lie as the first one does, and images that are
    already in memory are held there as a whole.

    Args:
        image: path as for `read_image`, or a channel-first MetaTensor; or one of them for each
            channel, by name.
        **reading: as for `read_image`; used only for paths.

    Raises:
        InputError: if the file is missing, damaged or of an unsupported kind.
        GeometryError: if it does not state where its voxels lie, or contradicts itself, or channels
            lie on different grids.
        MissingPackageError: for DICOM without pydicom.
    """
    if isinstance(image, Mapping):
        require_options_of_channels(reading, [*image])
        volumes = {
            name: open_volume(one, **reading_of_channel(reading, name))
            for name, one in image.items()
        }
        return joined_volumes(volumes, onto_first=reading.get("onto_first", False))
    if not isinstance(image, (str, os.PathLike)):
        return volume_in_memory(as_image(image))
    path = Path(image)
    of_file = reading_of_file(reading, path)
    kind = format_of_input(path)
    options = DicomOptions.of(of_file)
    if kind is ImageFormat.DICOM and kind_of_segmentation(path) is None:
        return _dicom_volume(prepare_dicom(path, options))
    if kind in (ImageFormat.NIFTI, ImageFormat.NIFTI_PAIR):
        options.require_none(str(path))
        file = open_nifti(path)
        # The colours of a voxel lie beside each other, so a plane of one of them is not read alone.
        if file.colours == 1:
            return _nifti_volume(file, of_file.get("orientation"))
    return volume_in_memory(read_image(path, **of_file))


def _dicom_volume(series: PreparedSeries) -> StoredVolume:
    if series.is_resampled or series.is_colour:
        stored = read_prepared(series)
        affine = stored.require_affine()
        return volume_in_memory(meta_tensor(stored.values, affine, stored.source, stored.meta))
    grid, walk = series.opened.grid, partial(dicom_blocks, series.points)
    source = series.opened.source
    return StoredVolume(grid, len(series.points), walk, source=source, meta=series.meta)


def _nifti_volume(file: NiftiFile, orientation: str | None) -> StoredVolume:
    true_type(file)  # refuses now what no block could hold
    geometry = nifti_geometry(file.header, file.shape[1:], file.source, orientation)
    grid = Grid(file.shape[1:], geometry.require_affine())
    walk = partial(nifti_blocks, file)
    return StoredVolume(grid, file.shape[0], walk, source=file.source, meta=geometry.meta)
