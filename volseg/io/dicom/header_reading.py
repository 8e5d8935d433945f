"""From a file to its header: read once, and only as far as the pixels.

What is written by the rules in little endian is found without pydicom; pydicom reads all else:
big endian, deflated, without preamble, damaged, or written against the rules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from volseg.io.dicom.elements import (
    PIXELS,
    UNDEFINED_LENGTH,
    EndsEarly,
    UnusualEncoding,
    element_at,
    find_elements,
)
from volseg.io.dicom.header import FoundHeader, Header, KnownValues, PydicomHeader

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

_PREAMBLE = 128
_MARK = b"DICM"
_FIRST_READ = 1 << 15  # bytes: most headers of single frames
_GROWTH = 4
_STANDARD = "1.2.840.10008.1.2"  # beginning of the transfer syntaxes that are not private
_SYNTAX, _MEDIA_CLASS = 0x00020010, 0x00020002
_END_OF_FRAGMENTS = bytes.fromhex("feffdde000000000")


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels of a file lie.

    Attributes:
        offset: of the first byte of the value; 0 where it is not known (deflated files).
        length: bytes of the value; -1 for compressed frames in fragments, and where not known.
        available: bytes of the file from the offset on.
        is_open: whether fragments have no end: the file is cut short.
        is_float: whether values are floating-point numbers, as in parametric maps.
    """

    offset: int
    length: int
    available: int
    is_open: bool = False
    is_float: bool = False


@dataclass(frozen=True)
class FileHeader:
    """What stands in a file before its pixels.

    Attributes:
        header: the elements.
        transfer_syntax: UID of the encoding.
        media_class: class of the object as the file's own header has it; empty without.
        pixels: where these lie; None if the file has none, or ends before them.
        size: bytes of the file.
    """

    header: Header
    transfer_syntax: str
    media_class: str
    pixels: PixelElement | None
    size: int


def is_marked(start: bytes) -> bool:
    """Return whether a file that starts with these bytes says that it is DICOM (PS3.10 7.1)."""
    return start[_PREAMBLE : _PREAMBLE + len(_MARK)] == _MARK


def read_header(stream: BinaryIO, start: bytes, known: KnownValues) -> FileHeader:
    """Return the header of a file.

    Args:
        stream: the file, after `start`.
        start: the first bytes of the file.
        known: values of other files; those of this one are added.

    Raises:
        Exception: of many types, from pydicom, if it is no DICOM file or a damaged one.
    """
    size = os.fstat(stream.fileno()).st_size
    if is_marked(start):
        try:
            return _found(stream, start, size, known)
        except UnusualEncoding:
            pass
    return _by_pydicom(stream, size, known, force=not is_marked(start))


def first_bytes(stream: BinaryIO) -> bytes:
    """Return as much of the start of a file as most headers take."""
    return stream.read(_FIRST_READ)


def _found(stream: BinaryIO, data: bytes, size: int, known: KnownValues) -> FileHeader:
    while True:
        try:
            return _from_bytes(stream, data, size, known)
        except EndsEarly:
            if len(data) >= size:
                raise
        more = stream.read((_GROWTH - 1) * len(data))
        if not more:
            raise EndsEarly
        data += more


def _from_bytes(stream: BinaryIO, data: bytes, size: int, known: KnownValues) -> FileHeader:
    meta, start = _file_meta(data)
    syntax = meta.get(_SYNTAX, "")
    if not syntax.startswith(_STANDARD) or syntax in (DEFLATED, BIG_ENDIAN):
        raise UnusualEncoding
    implicit = syntax == IMPLICIT
    states_representation = data[start + 4 : start + 6].isalpha()
    if implicit == states_representation:  # some are not what they say
        raise UnusualEncoding
    elements, stop = find_elements(data, start, len(data), implicit=implicit)
    pixels = None
    if stop < len(data):
        tag, _, offset, length = element_at(data, stop, implicit=implicit)
        pixels = _pixel_element(stream, tag, offset, length, size)
    elif stop < size:
        raise EndsEarly
    header = FoundHeader(data, elements, known)
    return FileHeader(header, syntax, meta.get(_MEDIA_CLASS, ""), pixels, size)


def _file_meta(data: bytes) -> tuple[dict[int, str], int]:
    """Return the elements about the file as text, and where its data set begins (PS3.10 7.1)."""
    found = {}
    start = _PREAMBLE + len(_MARK)
    while data[start : start + 2] == b"\x02\x00":
        tag, _, value, length = element_at(data, start, implicit=False)
        found[tag] = data[value : value + length].decode("latin-1").rstrip(" \0")
        start = value + length
    return found, start


def _by_pydicom(stream: BinaryIO, size: int, known: KnownValues, *, force: bool) -> FileHeader:
    import pydicom  # noqa: PLC0415 - an optional package

    stream.seek(0)
    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=force)
    syntax = _transfer_syntax(dataset)
    media_class = str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if syntax == DEFLATED:
        pixels: PixelElement | None = PixelElement(0, -1, 0)
    else:
        order: Literal["big", "little"] = "big" if syntax == BIG_ENDIAN else "little"
        is_implicit = bool(dataset.original_encoding[0])
        pixels = _pixels_here(stream, order, size, implicit=is_implicit)
    return FileHeader(PydicomHeader(dataset, known), syntax, media_class, pixels, size)


def _transfer_syntax(dataset: Any) -> str:
    """Return the UID of the transfer syntax; the default one where the file states none."""
    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    # PS3.5 10: implicit, little endian; files from before the header of files may be another.
    implicit, little = dataset.original_encoding
    explicit = EXPLICIT if little else BIG_ENDIAN
    return IMPLICIT if implicit in (True, None) else explicit


def _pixels_here(
    stream: BinaryIO, order: Literal["big", "little"], size: int, *, implicit: bool
) -> PixelElement | None:
    """Return where the pixels lie, None if the file ends before them.

    pydicom leaves the stream at the start of the element that it did not read.
    """
    start = stream.tell()
    head = stream.read(12)
    if len(head) < 8:
        return None
    group, element = (int.from_bytes(head[place : place + 2], order) for place in (0, 2))
    # Tag and length; or tag, OB or OW, two bytes, length.
    before = 4 if implicit else 8
    length = int.from_bytes(head[before : before + 4], order)
    return _pixel_element(stream, group << 16 | element, start + before + 4, length, size)


def _pixel_element(stream: BinaryIO, tag: int, offset: int, length: int, size: int) -> PixelElement:
    in_fragments = length == UNDEFINED_LENGTH
    return PixelElement(
        offset=offset,
        length=-1 if in_fragments else length,
        available=size - offset,
        is_open=in_fragments and not _fragments_end(stream, offset, size),
        is_float=tag in PIXELS and tag != 0x7FE00010,
    )


def _fragments_end(stream: BinaryIO, offset: int, size: int) -> bool:
    """Return whether the fragments of compressed pixels end within the file (PS3.5 A.4).

    Decoders make something of half a fragment, too.
    """
    stream.seek(max(offset, size - len(_END_OF_FRAGMENTS)))
    if stream.read() == _END_OF_FRAGMENTS:
        return True
    while offset + 8 <= size:  # other elements may follow the pixels
        stream.seek(offset)
        head = stream.read(8)
        if head[:4] == _END_OF_FRAGMENTS[:4]:
            return True
        offset += 8 + int.from_bytes(head[4:], "little")
    return False
