"""Reading of 2D pictures: PNG, TIFF and JPEG, on a grid of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.formats import ImageFormat
from volseg.io.itk import from_itk, load_itk
from volseg.io.stored_image import StoredImage, exact_values

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_PNG_DEPTH = 24  # place of the bit depth in a PNG file
_TIFF_BITS_PER_SAMPLE = 258
_EXIF_ORIENTATION = 0x0112


def read_picture(path: Path, kind: ImageFormat) -> StoredImage:
    """Return the pixels of a picture as (channels, x, y): x is the column, y the row.

    The affine is the identity: pictures are measured in pixels. Palette pictures keep the numbers
    of their palette, which is how label maps are stored.

    Raises:
        InputError: if the file is damaged, holds several pictures or an unsupported kind of pixel.
    """
    source = str(path)
    remarks = ["a picture: no world geometry, measured in pixels"]
    try:
        with Image.open(path, formats=[kind.value]) as picture:
            mode = picture.mode
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise InputError(
                    f"cannot read {source}: it holds {frames} pictures where one is expected; "
                    "split it into single pictures or convert it to a volume."
                )
            if picture.getexif().get(_EXIF_ORIENTATION, 1) != 1:
                remarks.append("asks viewers to turn it (EXIF); pixels are kept as stored")
            # Pillow cuts 16-bit colours to 8 bits; ITK expands palettes to colours.
            by_itk = _is_deep(picture, path, kind)
            if not by_itk:
                pixels = _pixels(picture, source)
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"cannot read {source}: the file is damaged or not a {kind.value} picture; copy or "
            "export it again."
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"cannot read {source}: it has too many pixels for a picture.") from error
    if by_itk:
        pixels, _ = from_itk(load_itk(path, kind), source)
    if mode == "P":
        remarks.append("a palette picture: its values are numbers of palette entries")
    return StoredImage(
        values=np.ascontiguousarray(exact_values(pixels, source)),
        affine=Affine(np.eye(3)),
        format=kind.value,
        stored_type=str(pixels.dtype),
        source=source,
        remarks=remarks,
    )


def _pixels(picture: Image.Image, source: str) -> npt.NDArray[Any]:
    if picture.mode not in _MODES:
        raise InputError(
            f"cannot read {source}: pixels of the kind {picture.mode} are not supported, expected "
            "grey, RGB or RGBA; convert it."
        )
    rows = np.asarray(picture)
    return rows.T[np.newaxis] if rows.ndim == 2 else rows.transpose(2, 1, 0)


def _is_deep(picture: Any, path: Path, kind: ImageFormat) -> bool:
    """Return whether a channel has more than the 8 bits that Pillow keeps in all cases."""
    if kind is ImageFormat.TIFF:
        bits = picture.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,))
        return bool(max(bits) > 8)
    if kind is ImageFormat.PNG:
        with path.open("rb") as stream:
            return stream.read(_PNG_DEPTH + 1)[_PNG_DEPTH] == 16
    return False
