"""Reading of any supported image as a MetaTensor."""

from __future__ import annotations

import os
from pathlib import Path

from monai.data import MetaTensor

from volseg.io.dicom import read_dicom
from volseg.io.formats import ImageFormat, format_of_input
from volseg.io.itk import read_itk
from volseg.io.meta_tensor import meta_tensor
from volseg.io.nifti import read_nifti
from volseg.io.picture import read_picture
from volseg.io.stored_image import StoredImage


def read_image(path: str | os.PathLike[str], *, orientation: str | None = None) -> MetaTensor:
    """Return an image as stored, with the affine that places it in the world.

    Axes keep the order of the file: nothing is reoriented or resampled.

    Args:
        path: NIfTI, NRRD or MetaImage file, a picture (PNG, TIFF, JPEG), or a folder with one
            DICOM series.
        orientation: axis codes such as "RAS" that the caller vouches for. Used only if the file
            states no orientation itself; voxel (0, 0, 0) then lies at the origin of the world.

    Returns:
        MetaTensor (channels, x, y, z) of true values, pictures (channels, x, y); `meta` holds
        `affine` (RAS+ mm), `original_affine`, `spatial_shape`, `space` and `filename_or_obj`.

    Raises:
        InputError: if the file is missing, damaged or of an unsupported kind.
        GeometryError: if it does not state where its voxels lie, or contradicts itself.
        MissingPackageError: for a DICOM folder without pydicom.
    """
    stored = read_stored(path, orientation)
    return meta_tensor(stored.values, stored.require_affine(), stored.source, stored.meta)


def read_stored(path: str | os.PathLike[str], orientation: str | None = None) -> StoredImage:
    """Return what a file holds; unlike `read_image` also without a stated orientation."""
    source = Path(path)
    kind = format_of_input(source)
    if kind is ImageFormat.DICOM:
        return read_dicom(source)
    if kind in (ImageFormat.NIFTI, ImageFormat.NIFTI_PAIR):
        return read_nifti(source, orientation)
    if kind in (ImageFormat.NRRD, ImageFormat.METAIMAGE):
        return read_itk(source, kind, orientation)
    return read_picture(source, kind)
