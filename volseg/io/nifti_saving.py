"""Saving of NIfTI a few planes at a time, from arrays in memory or on disk."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.array_on_disk import ReadableArray, slabs
from volseg.io.memory_order import first_axis_fastest

_QFORM_IN_VOXELS = 1e-3
_LONGEST_NIFTI1_AXIS = 32767
_SCANNER = 1
_KNOWN_CODES = range(1, 6)  # of the standard; files have others, too, which nibabel does not write
_GZIP_LEVEL = 4


def save_nifti(
    values: ReadableArray, affine: Affine, path: Path, codes: tuple[int, int] = (0, 0)
) -> None:
    """Save (channels, x, y, z) values as NIfTI; several channels become the fourth axis.

    The sform is always set. The qform is set too if a rotation can show the affine to a thousandth
    of a voxel; for a sheared affine its code is 0.

    Args:
        values: (channels, x, y, z); read slab by slab in the order of the file.
        affine: three-dimensional.
        path: file to write.
        codes: sform and qform codes of the source; one that is 0 or not in the standard takes the
            other, or 1 (scanner).
    """
    header = nifti_header_of(values.shape, values.dtype, affine, codes)
    # Without a name and a time in its header the compressed file depends on nothing but its
    # content.
    with path.open("wb") as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
                _write(values, header, packed)
        else:
            _write(values, header, stream)


def nifti_header_of(
    shape: tuple[int, ...], dtype: np.dtype[Any], affine: Affine, codes: tuple[int, int]
) -> Any:
    """Return the nibabel header that `save_nifti` writes.

    Raises:
        InputError: if the image is not one of three spatial axes.
    """
    if affine.spatial_dims != 3:
        raise InputError(
            f"a 2D image, shape {shape}, has no place in the world for NIfTI; write a picture "
            "(.png or .tif) instead."
        )
    channels, *space = shape
    stored = space if channels == 1 else [*space, channels]
    big = max(stored) > _LONGEST_NIFTI1_AXIS
    header = (nib.Nifti2Header if big else nib.Nifti1Header)()
    header.set_data_dtype(dtype)
    header.set_data_shape(stored)
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm")
    header.set_sform(affine.matrix, code=_first_known(codes))
    header.set_qform(affine.matrix, code=_first_known(codes[::-1]), strip_shears=True)
    shown = Affine(header.get_qform())
    if shown.displacement(affine, tuple(space)) > _QFORM_IN_VOXELS * min(affine.spacing):
        header["qform_code"] = 0
    return header


def _first_known(codes: tuple[int, ...]) -> int:
    return next((code for code in codes if code in _KNOWN_CODES), _SCANNER)


def _write(values: ReadableArray, header: Any, stream: Any) -> None:
    header.write_to(stream)
    for slab in slabs(values):
        # Plane by plane: compressed bytes do not depend on how the array was cut.
        for plane in first_axis_fastest(slab[0]).T:
            stream.write(plane)
