"""Writing of images and label maps; a file appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from volseg.atomic import replacing, require_writable
from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.array_on_disk import ReadableArray, is_on_disk
from volseg.io.convert import as_image
from volseg.io.formats import ImageFormat, format_of_name
from volseg.io.itk_saving import require_picture, save_itk, save_picture
from volseg.io.label_map import LabelsOnDisk, label_values
from volseg.io.meta_tensors import grid_of, numpy_values
from volseg.io.nifti_saving import nifti_header_of, save_nifti
from volseg.io.stored_volume import StoredVolume
from volseg.io.volume import open_volume

_WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff")
_ITK = (ImageFormat.NRRD, ImageFormat.METAIMAGE)


def write_image(image: MetaTensor, path: str | os.PathLike[str]) -> None:
    """Write a channel-first image on its affine, in the format of the suffix.

    NIfTI keeps the float32 of the affine; NRRD and MetaImage keep all its digits. Several channels
    become the fourth axis of NIfTI and the components of the other formats.

    Args:
        image: MetaTensor (channels, x, y, z), or (channels, x, y) for pictures, NRRD and MetaImage.
        path: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, `.png` or `.tif`; missing folders are made.

    Raises:
        InputError: if the suffix is unknown or the format cannot hold the image.
        OutputError: if writing fails; nothing half-written is left.
    """
    checked: Any = as_image(image)
    _write(numpy_values(checked), grid_of(checked).affine, path, codes_of(checked))


def write_segmentation(
    labels: Any,
    path: str | os.PathLike[str],
    *,
    like: StoredVolume | MetaTensor | str | os.PathLike[str],
) -> None:
    """Write a label map on exactly the grid of its image, as uint8 (past 255: uint16).

    Args:
        labels: array or tensor (x, y, z) or (1, x, y, z) of non-negative whole numbers; a
            MetaTensor must carry the affine of `like`. An array on disk, such as Zarr, is written
            to NIfTI some planes at a time; other formats are made in memory. Unless it is uint8 it
            is read twice.
        path: as for `write_image`.
        like: the image the labels belong to, or its path; its voxels are not needed.

    Raises:
        ShapeError: if the spatial shapes differ.
        GeometryError: if the labels carry another affine.
        InputError: if the values are not labels or the suffix is unknown.
        OutputError: if writing fails; nothing half-written is left.
    """
    image = like if isinstance(like, StoredVolume) else open_volume(like)
    grid = image.grid
    values: ReadableArray
    if is_on_disk(labels):
        values = LabelsOnDisk(labels, grid)
    else:
        values = label_values(labels, grid)[np.newaxis]
    _write(values, grid.affine, path, codes_of(image))


def require_segmentation_target(path: str | os.PathLike[str], like: StoredVolume) -> None:
    """Refuse a file that the label map of an image could not be written to, before it is made.

    Args:
        path: as for `write_segmentation`.
        like: the image the labels are to belong to; its voxels are not read.

    Raises:
        InputError: if the suffix is unknown or its format cannot hold the grid.
        OutputError: if no file can be made there.
    """
    target, grid = Path(path), like.grid
    kind = _kind_of(target)
    if kind is ImageFormat.NIFTI:
        nifti_header_of((1, *grid.shape), np.dtype(np.uint8), grid.affine, codes_of(like))
    elif kind not in _ITK:
        require_picture(grid.shape)
    require_writable(target)


def codes_of(image: StoredVolume | MetaTensor) -> tuple[int, int]:
    """Return the sform and qform codes of the file an image was read from, 0 if there are none."""
    meta: Any = image.meta
    return int(meta.get("sform_code", 0)), int(meta.get("qform_code", 0))


def _write(
    values: ReadableArray,
    affine: Affine,
    path: str | os.PathLike[str],
    codes: tuple[int, int],
) -> None:
    target = Path(path)
    kind = _kind_of(target)
    with replacing(target) as temporary:
        if kind is ImageFormat.NIFTI:
            save_nifti(values, affine, temporary, codes)
            return
        whole = np.asarray(values[(slice(None),) * len(values.shape)])
        if kind in _ITK:
            save_itk(whole, affine, temporary)
        else:
            save_picture(whole, temporary)


def _kind_of(target: Path) -> ImageFormat | None:
    """Return the format of a file to be written."""
    if not target.name.lower().endswith(_WRITABLE):
        raise InputError(
            f"cannot write {target}: the suffix {''.join(target.suffixes[-2:])!r} is not known; "
            f"expected one of {', '.join(_WRITABLE)}."
        )
    return format_of_name(target)
