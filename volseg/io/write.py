"""Writing of images and label maps; a file appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.convert import as_image
from volseg.io.encode import save_itk, save_nifti, save_picture
from volseg.io.formats import ImageFormat, format_of_name
from volseg.io.label_map import label_values
from volseg.io.meta_tensor import grid_of

_WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff")


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
    _write(_storable(checked.as_tensor().cpu()), grid_of(checked).affine, path, _codes(checked))


def write_segmentation(
    labels: Any, path: str | os.PathLike[str], *, like: MetaTensor | str | os.PathLike[str]
) -> None:
    """Write a label map on exactly the grid of its image, as uint8 (past 255: uint16).

    Args:
        labels: array or tensor (x, y, z) or (1, x, y, z) of non-negative whole numbers; a
            MetaTensor must carry the affine of `like`.
        path: as for `write_image`.
        like: the image the labels belong to, or its path.

    Raises:
        ShapeError: if the spatial shapes differ.
        GeometryError: if the labels carry another affine.
        InputError: if the values are not labels or the suffix is unknown.
        OutputError: if writing fails; nothing half-written is left.
    """
    image: Any = as_image(like)
    grid = grid_of(image)
    _write(label_values(labels, grid)[np.newaxis], grid.affine, path, _codes(image))


def _storable(values: torch.Tensor) -> npt.NDArray[Any]:
    """Return values in a type the formats know, unchanged."""
    wider = {torch.bool: torch.uint8, torch.float16: torch.float32, torch.bfloat16: torch.float32}
    stored: npt.NDArray[Any] = values.to(wider.get(values.dtype, values.dtype)).numpy()
    return stored


def _codes(image: Any) -> tuple[int, int]:
    return int(image.meta.get("sform_code", 0)), int(image.meta.get("qform_code", 0))


def _write(
    values: npt.NDArray[Any],
    affine: Affine,
    path: str | os.PathLike[str],
    codes: tuple[int, int],
) -> None:
    target = Path(path)
    if not target.name.lower().endswith(_WRITABLE):
        raise InputError(
            f"cannot write {target}: the suffix {''.join(target.suffixes[-2:])!r} is not known; "
            f"expected one of {', '.join(_WRITABLE)}."
        )
    kind = format_of_name(target)
    with replacing(target) as temporary:
        if kind is ImageFormat.NIFTI:
            save_nifti(values, affine, temporary, codes)
        elif kind in (ImageFormat.NRRD, ImageFormat.METAIMAGE):
            save_itk(values, affine, temporary)
        else:
            save_picture(values, temporary)
