"""Frames: the slices of DICOM images, one a file or many, with what their headers say of each.

In an enhanced multi-frame file what belongs to a frame stands in functional groups, shared by all
frames or one for each (PS3.3 C.7.6.16); in a single-frame file it stands at the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volseg.io.dicom.files import HeaderFile
from volseg.io.dicom.frame_keys import Key, dimension_pointers, frame_keys
from volseg.io.dicom.header import Header
from volseg.io.dicom.header_reading import BIG_ENDIAN, DEFLATED, PixelElement
from volseg.io.dicom.lookup_table import LookupTable, lookup_table

Numbers = tuple[float, ...]

# PS3.3 C.7.6.16.2.3, .4, .1 and PS3.3 C.7.6.16.2.9: functional groups and what is asked of them.
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
_FRAGMENT_HEAD = 8  # bytes before each fragment of compressed pixels (PS3.5 A.4)
# Bytes of pixels that one of the file can stand for at most; of other encodings there is no limit.
_EXPANSION = {
    DEFLATED: 1032,
    "1.2.840.10008.1.2.5": 64,  # RLE: two stand for 128
    "1.2.840.10008.1.2.4.57": 64,  # JPEG lossless: a bit or more for each value
    "1.2.840.10008.1.2.4.70": 64,
    "1.2.840.10008.1.2.4.50": 2048,  # JPEG: two bits or more for 8 x 8 values, colours halved
    "1.2.840.10008.1.2.4.51": 2048,
}


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of a file are stored (PS3.3 C.7.6.3).

    Attributes:
        rows: number of rows.
        columns: number of columns.
        samples: values a pixel, 1 or, in colour, 3.
        photometric: such as "MONOCHROME2".
        bits_allocated: bits a stored value takes.
        bits_stored: bits of it that mean something.
        high_bit: the highest of these.
        is_signed: whether they are a number in two's complement.
        transfer_syntax: UID of the encoding.
        padding: stored value outside the image (Pixel Padding Value), None if there is none.
        table: gives the true values where slope and intercept do not; None of most.
        is_float: whether values are floating-point numbers.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    transfer_syntax: str
    padding: int | None
    table: LookupTable | None = None
    is_float: bool = False

    @property
    def channels(self) -> int:
        """Values a pixel once it is decoded: 3 in colour, also of a palette."""
        return 3 if self.samples > 1 or self.photometric == "PALETTE COLOR" else 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame that is not compressed."""
        values = self.rows * self.columns * self.samples
        if self.photometric == "YBR_FULL_422":  # two pixels share their colours
            values = values * 2 // 3
        return values * self.bits_allocated // 8

    @property
    def value_type(self) -> np.dtype[Any]:
        """The type that a stored value has in memory."""
        kind = "f" if self.is_float else "i" if self.is_signed else "u"
        return np.dtype(f"{kind}{max(1, self.bits_allocated // 8)}")


@dataclass(frozen=True)
class Frame:
    """One slice of a DICOM image.

    Attributes:
        path: file it lies in.
        number: place in the file, from 0.
        frame_count: frames of the file.
        sop_class_uid: SOP Class UID of the file.
        sop_instance_uid: SOP Instance UID of the file.
        frame_of_reference_uid: of the space that positions are in; empty if not stated.
        position: centre of the first pixel, LPS+ mm; None if not stated or damaged.
        orientation: row then column cosines, LPS+; None if not stated or damaged.
        pixel_spacing: distance between rows, then between columns, mm; None if not stated.
        slope: a true value is a stored one times this,
        intercept: plus this.
        image_type: Image Type, such as ("ORIGINAL", "PRIMARY", "AXIAL").
        keys: what may tell frames at one position apart, by name: see `frame_keys`.
        pixels: where the pixels of the file lie.
        format: how they are stored.
    """

    path: Path
    number: int
    frame_count: int
    sop_class_uid: str
    sop_instance_uid: str
    frame_of_reference_uid: str
    position: Numbers | None
    orientation: Numbers | None
    pixel_spacing: Numbers | None
    slope: float
    intercept: float
    image_type: tuple[str, ...]
    keys: dict[str, Key]
    pixels: PixelElement
    format: PixelFormat

    @property
    def name(self) -> str:
        """The file, and the number of the frame where it has several, for messages."""
        return f"{self.path}, frame {self.number + 1}" if self.frame_count > 1 else str(self.path)


def frames_of(file: HeaderFile) -> Iterator[Frame]:
    """Yield the frames of an image file.

    Raises:
        ValueError: if a value of the header is not of its type, or there cannot be that many.
    """
    header = file.header
    count = int(header.get("NumberOfFrames") or 1)
    pixel_format = _pixel_format(file)
    _require_possible(count, pixel_format, file)
    shared = _first(header, "SharedFunctionalGroupsSequence")
    groups = header.get("PerFrameFunctionalGroupsSequence") or ()
    if groups and len(groups) != count:
        raise ValueError(f"{count} frames, but functional groups of {len(groups)}")
    pointers = dimension_pointers(header)
    text = {
        name: str(header.get(name) or "")
        for name in ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
    }
    for number in range(count):
        own = groups[number] if groups else None
        position = _numbers(_value("ImagePositionPatient", header, shared, own), 3)
        orientation = _numbers(_value("ImageOrientationPatient", header, shared, own), 6)
        if count > 1 and not groups:
            position = None  # the header has one for all of them
        slope = _value("RescaleSlope", header, shared, own)
        yield Frame(
            path=file.path,
            number=number,
            frame_count=count,
            sop_class_uid=text["SOPClassUID"],
            sop_instance_uid=text["SOPInstanceUID"],
            frame_of_reference_uid=text["FrameOfReferenceUID"],
            position=position,
            orientation=orientation,
            pixel_spacing=_numbers(_value("PixelSpacing", header, shared, own), 2),
            slope=1.0 if slope in (None, "") else float(slope),
            intercept=float(_value("RescaleIntercept", header, shared, own) or 0.0),
            image_type=_texts(header.get("ImageType")),
            keys=frame_keys(header, shared, own, pointers),
            pixels=file.pixels,
            format=pixel_format,
        )


def _require_possible(count: int, stored: PixelFormat, file: HeaderFile) -> None:
    """Raise if the pixels of a file are too few for its frames.

    It is known before frames are made or room for them, which of a damaged number would not end.
    """
    is_native = file.pixels.length >= 0
    if min(count, stored.rows, stored.columns) < 1:
        most = 0
    elif is_native and count == 1:
        most = 1  # where pixels are missing, the volume says how many
    elif is_native or file.transfer_syntax in _EXPANSION:
        available = file.pixels.available or file.size  # of deflated files as a whole
        expansion = 1 if is_native else _EXPANSION[file.transfer_syntax]
        most = available * expansion // max(1, stored.frame_bytes)
    else:
        most = file.pixels.available // _FRAGMENT_HEAD
    if not 1 <= count <= most:
        raise ValueError(
            f"{count} frames of {stored.columns} x {stored.rows} pixels, of which it holds {most} "
            "at most: it may be cut short"
        )


def _pixel_format(file: HeaderFile) -> PixelFormat:
    header = file.header
    allocated = int(header.get("BitsAllocated") or 16)
    stored = int(header.get("BitsStored") or allocated)
    high = header.get("HighBit")
    is_signed = int(header.get("PixelRepresentation") or 0) == 1
    return PixelFormat(
        rows=int(header.get("Rows")),
        columns=int(header.get("Columns")),
        samples=int(header.get("SamplesPerPixel") or 1),
        photometric=str(header.get("PhotometricInterpretation")),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high in (None, "") else int(high),
        is_signed=is_signed,
        transfer_syntax=file.transfer_syntax,
        padding=_padding(header, allocated, is_signed),
        table=lookup_table(
            header,
            is_signed=is_signed,
            is_big_endian=file.transfer_syntax == BIG_ENDIAN,
        ),
        is_float=file.pixels.is_float,
    )


def _padding(header: Header, bits: int, is_signed: bool) -> int | None:
    value = header.get("PixelPaddingValue")
    if isinstance(value, bytes):  # of unknown type in implicit encoding
        value = int.from_bytes(value[:2], "little")
    if not isinstance(value, int):
        return None
    # Many scanners write a signed value as an unsigned one, or the other way round.
    value %= 1 << bits
    return value - (1 << bits) if is_signed and value >= 1 << (bits - 1) else value


def _value(name: str, header: Header, shared: Any, own: Any) -> Any:
    """Return a value of a frame: its own, else the shared one, else that of the file."""
    for group in (own, shared):
        found = _first(group, _GROUPS[name])
        if found is not None and name in found:
            return found.get(name)
    return header.get(name)


def _first(dataset: Any, name: str) -> Any:
    """Return the first item of a sequence, None if there is none."""
    items = None if dataset is None else dataset.get(name)
    return items[0] if items else None


def _numbers(value: Any, count: int) -> Numbers | None:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _texts(value: Any) -> tuple[str, ...]:
    if value in (None, ""):
        return ()
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value)
