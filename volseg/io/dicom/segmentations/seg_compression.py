"""Lossless compression of the pixels of DICOM SEG objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, MissingPackageError

# Each with pydicom's name of the encoder: python-gdcm's of RLE ends the process on frames of an odd
# number of pixels.
_COMPRESSIONS = {
    "rle": ("1.2.840.10008.1.2.5", "pydicom"),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", "pyjpegls"),
    "jpeg2000": ("1.2.840.10008.1.2.4.90", "pylibjpeg"),
}
_PACKAGES = {"pylibjpeg": "pylibjpeg-openjpeg"}
_HIGHEST_OFFSET = 2**32 - 1  # of the basic offset table: PS3.5 A.4


def require_compression(compression: str | None) -> None:
    """Raise unless a compression is None or the name of one.

    Raises:
        InputError: if it is another word.
    """
    if compression is not None and compression not in _COMPRESSIONS:
        known = ", ".join(_COMPRESSIONS)
        raise InputError(f"the compression {compression!r} is not known; expected one of {known}.")


def compressed_frame(plane: npt.NDArray[Any], compression: str) -> bytes:
    """Return a plane `(rows, columns)` of uint8 or uint16, compressed.

    Raises:
        MissingPackageError: if the package of the encoder is not installed.
    """
    from pydicom.pixels import get_encoder  # noqa: PLC0415 - optional, and there if it is needed

    uid, encoder = _COMPRESSIONS[compression]
    bits = plane.dtype.itemsize * 8
    try:
        frame: bytes = get_encoder(uid).encode(
            np.ascontiguousarray(plane),
            encoding_plugin=encoder,
            rows=plane.shape[0],
            columns=plane.shape[1],
            number_of_frames=1,
            samples_per_pixel=1,
            bits_allocated=bits,
            bits_stored=bits,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    except RuntimeError as error:
        package = _PACKAGES.get(encoder, encoder)
        raise MissingPackageError(f"the compression {compression}", package) from error
    return frame


def set_frames(dataset: Any, frames: Iterable[bytes], compression: str | None) -> None:
    """Give a dataset its frames, as `compressed_frame` returns them or as they are."""
    from pydicom.encaps import encapsulate  # noqa: PLC0415

    held = list(frames)
    if compression is None:
        size = sum(map(len, held))
        dataset.PixelData = b"".join([*held, bytes(size % 2)])
        return
    has_table = sum(len(frame) + 8 for frame in held) <= _HIGHEST_OFFSET
    dataset.file_meta.TransferSyntaxUID = _COMPRESSIONS[compression][0]
    dataset.PixelData = encapsulate(held, has_bot=has_table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
