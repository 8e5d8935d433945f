"""Reading of 2D pictures: PNG, TIFF and JPEG, on a grid of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image, UnidentifiedImageError

from volseg.errors import InputError
from volseg.geometry import Affine
from volseg.io.formats import ImageFormat
from volseg.io.itk import from_itk, load_itk
from volseg.io.stored_image import StoredImage, exact_values

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_DEEP_MODES = ("I;16", "I;16B", "F")  # of which Pillow keeps all bits
_PNG_DEPTH = 24  # place of the bit depth in a PNG file
_ORIENTATION = 0x0112  # in EXIF and TIFF
_UPRIGHT = 1
_TURNED = range(2, 9)
# Tags of TIFF 6.0.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_SAMPLES_PER_PIXEL = 277
_TILE_WIDTH = 322
_SAMPLE_FORMAT = 339
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}


def read_picture(path: Path, kind: ImageFormat) -> StoredImage:
    """Return the pixels of a picture as (channels, x, y): x is the column, y the row.

    The affine is the identity: pictures are measured in pixels. Values are as stored: palette
    pictures keep the numbers of their palette, which is how label maps are stored, and in a TIFF
    whose zero is white, larger values are darker.

    Raises:
        InputError: if the file is damaged, holds several pictures or an unsupported kind of pixel,
            or is to be turned before it is shown.
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
            _require_upright(picture, source)
            tags = dict(picture.tag_v2) if kind is ImageFormat.TIFF else {}
            # Pillow cuts 16-bit colours to 8 bits; ITK expands palettes to colours.
            by_itk = _is_deep_png(path) if kind is ImageFormat.PNG else _suits_itk(tags, mode)
            if not by_itk:
                pixels = _pixels(picture, tags, source)
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
        image = load_itk(path, kind)
        stored_type = sitk.GetArrayViewFromImage(image).dtype
        pixels, _ = from_itk(image, source)
    else:
        stored_type = pixels.dtype
    if kind is ImageFormat.TIFF:
        _require_as_stated(stored_type, pixels.shape[0], tags, source)
        if _is_white_zero(tags):
            remarks.append("zero is white: shown with larger values darker; values are as stored")
    if mode == "P":
        remarks.append("a palette picture: its values are numbers of palette entries")
    return StoredImage(
        values=np.ascontiguousarray(exact_values(pixels, source)),
        affine=Affine(np.eye(3)),
        format=kind.value,
        stored_type=str(stored_type),
        source=source,
        remarks=remarks,
    )


def _require_upright(picture: Image.Image, source: str) -> None:
    """Raise if viewers turn a picture before they show it.

    Labels are drawn on what a viewer shows, and say nothing of how it was turned.
    """
    orientation = picture.getexif().get(_ORIENTATION, _UPRIGHT)
    if orientation in _TURNED:
        raise InputError(
            f"cannot read {source}: it asks viewers to turn or mirror it (orientation "
            f"{orientation}), expected {_UPRIGHT}, upright; write it as it is shown, without the "
            "tag, so that labels lie on it as they were drawn."
        )


def _pixels(picture: Image.Image, tags: Mapping[int, Any], source: str) -> npt.NDArray[Any]:
    """Return the stored values of a picture of which Pillow keeps all bits."""
    if picture.mode not in (*_MODES, *_DEEP_MODES):
        raise InputError(
            f"cannot read {source}: pixels of the kind {picture.mode} are not supported, expected "
            "grey, RGB or RGBA; convert it."
        )
    rows = np.asarray(picture)
    if picture.mode in ("1", "L") and tags and _is_white_zero(tags):
        rows = ~rows  # as Pillow did, so that white becomes the largest value
    return rows.T[np.newaxis] if rows.ndim == 2 else rows.transpose(2, 1, 0)


def _is_white_zero(tags: Mapping[int, Any]) -> bool:
    return bool(tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO)


def _suits_itk(tags: Mapping[int, Any], mode: str) -> bool:
    """Return whether a TIFF has more than 8 bits; ITK has no tiles."""
    is_deep = max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8
    return is_deep and not (_TILE_WIDTH in tags and mode in _DEEP_MODES)


def _is_deep_png(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(_PNG_DEPTH + 1)[_PNG_DEPTH] == 16


def _require_as_stated(
    kind: np.dtype[Any], channels: int, tags: Mapping[int, Any], source: str
) -> None:
    """Raise unless a TIFF became values of the type and the number that its tags state.

    What they do not know, ITK turns into RGBA of 8 bits, and Pillow into what comes near.
    """
    samples = tags.get(_SAMPLES_PER_PIXEL, 1)
    letter = _SAMPLE_KINDS.get(max(tags.get(_SAMPLE_FORMAT, (1,))), "?")
    stated = f"{letter}{-(-max(tags.get(_BITS_PER_SAMPLE, (1,))) // 8)}"
    found = kind.str[1:].replace("b", "u")
    if (channels, found) != (samples, stated):
        raise InputError(
            f"cannot read {source}: pixels of {samples} x {stated}, as its tags state, would "
            f"become {channels} x {found}; this layout is not supported: write it again in strips "
            "of whole pixels of 8 or 16 bits, or as PNG."
        )
