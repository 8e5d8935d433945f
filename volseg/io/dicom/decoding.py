"""Decoding: the stored values of frames, from the plainest way that is right for a file.

Uncompressed grey values are copied from the file. Grey values compressed as JPEG lossless, JPEG-LS
or JPEG 2000 go through SimpleITK, whose decoders (GDCM's) let other threads run meanwhile. All else
goes through pydicom and the plugins it finds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.io.dicom.files import without_pydicom_warnings
from volseg.io.dicom.frames import Frame
from volseg.io.dicom.header_reading import EXPLICIT, IMPLICIT

Plane = npt.NDArray[Any]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_WITH_GDCM = (
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
)
_CT = "1.2.840.10008.5.1.4.1.1.2"


def is_plain(frame: Frame) -> bool:
    """Return whether stored values are grey and lie in the file as they are in memory."""
    stored = frame.format
    return (
        stored.transfer_syntax in (IMPLICIT, EXPLICIT)
        and stored.photometric in _GREY
        and stored.samples == 1
        and stored.bits_allocated in (8, 16, 32, 64)
        and frame.pixels.length >= 0
    )


def is_random_access(frame: Frame) -> bool:
    """Return whether a frame is found in its file without a look at the others."""
    return is_plain(frame) or frame.frame_count == 1


def read_plain(frame: Frame, plane: Plane) -> None:
    """Read the stored values of a plain frame into (rows, columns) of their type.

    Raises:
        InputError: if the file ends before they do.
    """
    with frame.path.open("rb", buffering=0) as stream:
        stream.seek(frame.pixels.offset + frame.number * frame.format.frame_bytes)
        if stream.readinto(plane.data.cast("B")) != plane.nbytes:
            raise InputError(
                f"cannot read {frame.name}: its pixels are damaged, the file ends before they do; "
                "copy the series again."
            )
    if sys.byteorder == "big":
        plane.byteswap(inplace=True)


def decode_frames(frames: Sequence[Frame]) -> Iterator[Plane]:
    """Yield the stored values of frames of one file, (rows, columns) or (rows, columns, 3).

    Colours are RGB.

    Raises:
        InputError: if the pixels are damaged, or compressed in a way nothing here can decode.
    """
    planes = _by_gdcm(frames[0]) if _suits_gdcm(frames[0]) else _by_pydicom(frames)
    for frame, plane in zip(frames, planes, strict=True):
        yield _checked(plane, frame)


def _suits_gdcm(frame: Frame) -> bool:
    """Whether SimpleITK gives stored values: it rescales by rules that differ among modalities."""
    plain_scale = frame.intercept == 0.0 or (
        frame.sop_class_uid == _CT and frame.intercept.is_integer()
    )
    return (
        frame.format.transfer_syntax in _WITH_GDCM
        and frame.format.photometric in _GREY
        and frame.frame_count == 1
        and frame.format.table is None
        and frame.slope == 1.0
        and plain_scale
    )


def _by_gdcm(frame: Frame) -> Iterator[Plane]:
    import SimpleITK as sitk  # noqa: PLC0415 - the name it goes by in the field

    try:
        image = sitk.ReadImage(str(frame.path), imageIO="GDCMImageIO")
    except RuntimeError:
        yield from _by_pydicom([frame])
        return
    values = sitk.GetArrayViewFromImage(image)[0]
    stored = values - np.int64(frame.intercept) if frame.intercept else values
    yield stored.astype(frame.format.value_type)


def _by_pydicom(frames: Sequence[Frame]) -> Iterator[Plane]:
    import pydicom  # noqa: PLC0415 - an optional package
    from pydicom.pixels import apply_color_lut, iter_pixels, pixel_array  # noqa: PLC0415

    first = frames[0]
    palette = first.format.photometric == "PALETTE COLOR"
    with without_pydicom_warnings():
        try:
            if len(frames) < first.frame_count and _in_fragments(first) and not palette:
                # A data set would hold the pixels of all the frames of the file. For all of them
                # it is the faster: without a table each frame is looked for from the start.
                yield from iter_pixels(first.path, indices=[frame.number for frame in frames])
                return
            dataset = pydicom.dcmread(first.path, force=True)
            for frame in frames:
                index = frame.number if frame.frame_count > 1 else None
                plane = pixel_array(dataset, index=index)
                yield apply_color_lut(plane, dataset)[..., :3] if palette else plane
        except MemoryError:
            raise
        except Exception as error:
            # pydicom and its plugins raise many types.
            sentence = " ".join(str(error).split())
            raise InputError(
                f"cannot read {first.path}: its pixels are damaged or compressed in an unknown "
                f"way ({sentence.rstrip('.')}); copy the series again."
            ) from error


def _in_fragments(frame: Frame) -> bool:
    """Return whether it is one of several frames that are found by the fragments they lie in."""
    pixels = frame.pixels
    return frame.frame_count > 1 and pixels.length < 0 and pixels.offset > 0


def _checked(plane: Plane, frame: Frame) -> Plane:
    stored = frame.format
    expected = (stored.rows, stored.columns) + ((3,) if stored.channels > 1 else ())
    if plane.shape != expected:
        raise InputError(
            f"cannot read {frame.name}: its pixels are damaged, they have the shape {plane.shape}, "
            f"expected {expected} from its header; copy the series again."
        )
    return plane


def without_unused_bits(plane: Plane, frame: Frame) -> Plane:
    """Return values of the bits that belong to them (PS3.5 8.1.1): others may hold overlays."""
    stored = frame.format
    if stored.is_float or stored.channels > 1 or stored.bits_stored >= stored.bits_allocated:
        return plane
    lowest = -(1 << (stored.bits_stored - 1)) if stored.is_signed else 0
    highest = lowest + (1 << stored.bits_stored) - 1
    is_low = stored.high_bit == stored.bits_stored - 1
    if is_low and plane.min() >= lowest and plane.max() <= highest:
        return plane
    if is_low and stored.padding is not None:
        # Scanners mark what is outside the image with a value that no pixel can have.
        outside = (plane < lowest) | (plane > highest)
        if np.all(plane[outside] == stored.padding):
            return plane
    above = stored.bits_allocated - 1 - stored.high_bit
    return (plane << above) >> (above + stored.high_bit + 1 - stored.bits_stored)
