"""Which image format a path holds, from its name."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from volseg.errors import InputError


class ImageFormat(Enum):
    """The formats volseg reads."""

    NIFTI = "NIfTI"
    NIFTI_PAIR = "NIfTI pair"
    NRRD = "NRRD"
    METAIMAGE = "MetaImage"
    PNG = "PNG"
    TIFF = "TIFF"
    JPEG = "JPEG"
    DICOM = "DICOM series"


SUFFIXES: dict[str, ImageFormat] = {
    ".nii": ImageFormat.NIFTI,
    ".nii.gz": ImageFormat.NIFTI,
    ".hdr": ImageFormat.NIFTI_PAIR,
    ".img": ImageFormat.NIFTI_PAIR,
    ".nrrd": ImageFormat.NRRD,
    ".nhdr": ImageFormat.NRRD,
    ".mha": ImageFormat.METAIMAGE,
    ".mhd": ImageFormat.METAIMAGE,
    ".png": ImageFormat.PNG,
    ".tif": ImageFormat.TIFF,
    ".tiff": ImageFormat.TIFF,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
}

# So that `.nii.gz` is not taken for `.gz`.
_LONGEST_FIRST = sorted(SUFFIXES, key=len, reverse=True)
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def format_of_name(path: str | os.PathLike[str]) -> ImageFormat | None:
    """Return the format that a file name stands for, or None if its suffix is unknown."""
    name = Path(path).name.lower()
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)


def format_of_input(path: str | os.PathLike[str]) -> ImageFormat:
    """Return the format of an existing file or folder.

    Raises:
        InputError: if nothing is there, the file is empty, or it has no known suffix and is no
            DICOM file.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"cannot read {source}: there is no such file or folder.")
    if source.is_dir():
        return ImageFormat.DICOM
    if not source.is_file():
        raise InputError(f"cannot read {source}: it is neither a file nor a folder.")
    try:
        with source.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}.") from error
    if not start:
        raise InputError(f"cannot read {source}: the file is empty; copy or export it again.")
    if start[128:132] == b"DICM" or source.name.lower().endswith(_DICOM_SUFFIXES):
        return ImageFormat.DICOM
    kind = format_of_name(source)
    if kind is None:
        raise InputError(
            f"cannot read {source}: the suffix {''.join(source.suffixes[-2:])!r} is not known; "
            f"expected one of {', '.join(SUFFIXES)} or a folder with a DICOM series."
        )
    return kind


def image_name(path: str | os.PathLike[str]) -> str:
    """Return a file name without its image suffix: `a/b.nii.gz` gives `b`."""
    name = Path(path).name
    known = (*_LONGEST_FIRST, *_DICOM_SUFFIXES)
    suffix = next((end for end in known if name.lower().endswith(end)), "")
    return name[: len(name) - len(suffix)] or name


def segmentation_suffix(spatial_dims: int) -> str:
    """Return the suffix of a label map nobody chose a format for: NIfTI, of a 2D picture PNG."""
    return ".nii.gz" if spatial_dims == 3 else ".png"
