"""Saving of channel-first values through SimpleITK: NRRD, MetaImage and pictures."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.itk import itk_reason, to_itk


def save_itk(values: npt.NDArray[Any], affine: Affine, path: Path) -> None:
    """Save channel-first values as NRRD or MetaImage and make sure that they are on the disk.

    Raises:
        OSError: if they are not, as every writer raises on a full disk.
    """
    image = to_itk(values, affine)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        # ITK does not notice every failed write, such as a full disk.
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise OSError(errno.EIO, itk_reason(error)) from error
    intended = sitk.GetArrayViewFromImage(image)
    if not np.array_equal(written, intended, equal_nan=values.dtype.kind == "f"):
        raise OSError(errno.EIO, "the file could not be read back as written")


def save_picture(values: npt.NDArray[Any], path: Path) -> None:
    """Save (channels, x, y) values as PNG or TIFF.

    Raises:
        InputError: if they are no picture.
        OSError: as `save_itk` does.
    """
    require_picture(values.shape[1:])
    narrow = _picture_type(values, path)
    save_itk(narrow, Affine(np.eye(3)), path)


def require_picture(shape: tuple[int, ...]) -> None:
    """Refuse to save what has another spatial shape than a picture.

    Raises:
        InputError: if it is not 2D.
    """
    if len(shape) != 2:
        raise InputError(
            f"a picture holds one 2D image, got spatial shape {shape}; write a volume as .nii.gz, "
            ".nrrd or .mha."
        )


def _picture_type(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype == np.float32 and path.suffix.lower() in (".tif", ".tiff"):
        return values
    for kind in (np.uint8, np.uint16):
        if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= np.iinfo(kind).max:
            return values.astype(kind)
    raise InputError(
        f"a picture {path.suffix} holds whole numbers from 0 to 65535 (TIFF also float32), got "
        f"{values.dtype} from {values.min()} to {values.max()}; scale it, or write .nrrd or .mha."
    )
