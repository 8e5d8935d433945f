"""Saving of channel-first values in one format; `write` makes the result appear whole."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.itk import itk_reason, to_itk

_QFORM_IN_VOXELS = 1e-3
_LONGEST_NIFTI1_AXIS = 32767
_SCANNER = 1
_GZIP_LEVEL = 4


def save_nifti(
    values: npt.NDArray[Any], affine: Affine, path: Path, codes: tuple[int, int] = (0, 0)
) -> None:
    """Save (channels, x, y, z) values as NIfTI; several channels become the fourth axis.

    The sform is always set. The qform is set too if a rotation can show the affine to a thousandth
    of a voxel; for a sheared affine its code is 0.

    Args:
        values: (channels, x, y, z).
        affine: three-dimensional.
        path: file to write.
        codes: sform and qform codes of the source; one that is 0 takes the other, or 1 (scanner).
    """
    if affine.spatial_dims != 3:
        raise InputError(
            f"a 2D image, shape {values.shape}, has no place in the world for NIfTI; write a "
            "picture (.png or .tif) instead."
        )
    data = values[0] if values.shape[0] == 1 else np.moveaxis(values, 0, -1)
    big = max(data.shape) > _LONGEST_NIFTI1_AXIS
    # Without an affine: nibabel would write codes of its own.
    image = (nib.Nifti2Image if big else nib.Nifti1Image)(data, None, dtype=data.dtype)
    header = image.header
    header.set_xyzt_units("mm")
    header.set_sform(affine.matrix, code=codes[0] or codes[1] or _SCANNER)
    header.set_qform(affine.matrix, code=codes[1] or codes[0] or _SCANNER, strip_shears=True)
    shape = values.shape[1:]
    shown = Affine(header.get_qform())
    if shown.displacement(affine, shape) > _QFORM_IN_VOXELS * min(affine.spacing):
        header["qform_code"] = 0
    # Opened here, because nibabel leaves the file open when the disk is full. Without a name and
    # a time in its header the compressed file depends on nothing but its content.
    with path.open("wb") as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


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
    """Save (channels, x, y) values as PNG or TIFF."""
    if values.ndim != 3:
        raise InputError(
            f"a picture holds one 2D image, got spatial shape {values.shape[1:]}; write a volume "
            "as .nii.gz, .nrrd or .mha."
        )
    narrow = _picture_type(values, path)
    save_itk(narrow, Affine(np.eye(3)), path)


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
