"""Files of a folder, a DICOMDIR or a single path: the headers of DICOM images, and all the rest.

Only headers are read. A file that is no image, or is damaged, is named with the reason and stops
nothing else.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from volseg.errors import InputError, MissingPackageError
from volseg.io.dicom.header import Header, KnownValues

_log = logging.getLogger(__name__)

_PREAMBLE = 128
# Files from before the preamble was required begin with their first element, in group 0002 or 0008.
_OLD_STARTS = (b"\x02\x00", b"\x08\x00")
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: a DICOMDIR
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT = "1.2.840.10008.1.2"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_END_OF_FRAGMENTS = bytes.fromhex("feffdde000000000")
# What every image has, also where anonymisation emptied its identifiers (PS3.3 C.7.6.3).
_IMAGE_TAGS = ("Rows", "Columns", "PhotometricInterpretation")


@dataclass(frozen=True)
class UnusedFile:
    """A file that gives no frame of an image.

    Attributes:
        path: where it lies.
        reason: why it is not used, as a phrase.
        is_damaged: whether it is a DICOM file of which something is lost or missing.
        is_copy: whether it is another file once more.
        series_uid: Series Instance UID, where the file states one.
    """

    path: Path
    reason: str
    is_damaged: bool = False
    is_copy: bool = False
    series_uid: str = ""


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
class HeaderFile:
    """The header of a DICOM image.

    Attributes:
        path: where the file lies.
        header: the elements before the pixels.
        transfer_syntax: UID of the encoding.
        pixels: where these lie.
    """

    path: Path
    header: Header
    transfer_syntax: str
    pixels: PixelElement


def read_headers(path: Path) -> Iterator[HeaderFile | UnusedFile]:
    """Yield every file below a folder, sorted by path, or the given one.

    Args:
        path: a folder, searched at any depth; a DICOM file; or a DICOMDIR, which stands for the
            folder it lies in: files that it names and that are not there are yielded as damaged.

    Raises:
        InputError: if a folder cannot be listed.
        MissingPackageError: if pydicom is not installed.
    """
    require_pydicom()
    known: KnownValues = {}
    if path.is_file() and path.name.upper() != "DICOMDIR":
        yield _read_header(path, known)
        return
    seen = set()
    directories = []
    for file in _files_below(path if path.is_dir() else path.parent):
        seen.add(file)
        if file.name.upper() == "DICOMDIR":
            directories.append(file)
        yield _read_header(file, known)
    for directory in directories:
        for file in _files_named_by(directory):
            if file not in seen:
                reason = f"named by {directory}, but not there"
                yield UnusedFile(file, reason, is_damaged=True)


def require_pydicom() -> None:
    """Raise a sentence if pydicom, an optional package, is not installed."""
    try:
        import pydicom  # noqa: F401, PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error


@contextmanager
def without_pydicom_warnings() -> Iterator[None]:
    """Silence what pydicom says of values that break the rules of their type.

    Scanners do as they like with them, and pydicom warns on behalf of whoever called it; what
    matters here is checked by value.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_header(path: Path, known: KnownValues) -> HeaderFile | UnusedFile:
    """Return the header of a DICOM image, or why the file is none."""
    import pydicom  # noqa: PLC0415 - an optional package

    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + 4)
            marked = start[_PREAMBLE:] == b"DICM"
            if not marked and start[:2] not in _OLD_STARTS:
                return UnusedFile(path, "not a DICOM file" if start else "an empty file")
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=not marked)
            syntax = _transfer_syntax(dataset)
            pixels = _pixel_element(stream, dataset, syntax)
            return _checked(path, Header(dataset, known), syntax, pixels, marked)
    except OSError as error:
        return UnusedFile(path, f"cannot be opened ({error.strerror or error})", is_damaged=True)
    except Exception as error:
        # pydicom raises many types.
        if marked:
            reason = f"a damaged DICOM file ({type(error).__name__})"
            return UnusedFile(path, reason, is_damaged=True)
        _log.debug("%s is not a DICOM file: %s", path, error)
        return UnusedFile(path, "not a DICOM file")


def _transfer_syntax(dataset: Any) -> str:
    """Return the UID of the transfer syntax; the default one where the file states none."""
    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    # PS3.5 10: implicit, little endian; files from before the header of files may be another.
    implicit, little = dataset.original_encoding
    explicit = "1.2.840.10008.1.2.1" if little else _BIG_ENDIAN
    return _IMPLICIT if implicit in (True, None) else explicit


def _checked(
    path: Path, header: Header, syntax: str, pixels: PixelElement | None, marked: bool
) -> HeaderFile | UnusedFile:
    missing = [name for name in _IMAGE_TAGS if header.get(name) in (None, "")]
    if not missing and pixels is not None:
        return HeaderFile(path, header, syntax, pixels)
    sop_class = header.get("SOPClassUID") or ""
    if _DIRECTORY in (sop_class, header.dataset.file_meta.get("MediaStorageSOPClassUID")):
        return UnusedFile(path, "a directory of files (DICOMDIR)")
    if not (marked or sop_class):
        return UnusedFile(path, "not a DICOM file")
    uid = str(header.get("SeriesInstanceUID") or "")
    if not sop_class and len(missing) == len(_IMAGE_TAGS):
        reason = "a DICOM file that ends before it says what it is"
        return UnusedFile(path, reason, is_damaged=True, series_uid=uid)
    kind = str(getattr(sop_class, "name", sop_class)).removesuffix(" Storage")
    if len(missing) == len(_IMAGE_TAGS) and "Image" not in kind:
        return UnusedFile(path, f"no image: {kind}", series_uid=uid)
    lacking = ", ".join(missing) or "pixels: it is cut short"
    return UnusedFile(path, f"an image without {lacking}", is_damaged=True, series_uid=uid)


def _pixel_element(stream: Any, dataset: Any, syntax: str) -> PixelElement | None:
    """Return where the pixels lie, None if the file ends before them.

    pydicom leaves the stream at the start of the element that it did not read (PS3.5 7.1).
    """
    if syntax == _DEFLATED:
        return PixelElement(0, -1, 0)
    order: Literal["big", "little"] = "big" if syntax == _BIG_ENDIAN else "little"
    start = stream.tell()
    head = stream.read(12)
    size = os.fstat(stream.fileno()).st_size
    if len(head) < 8:
        return None
    if dataset.original_encoding[0]:  # implicit: tag and length
        offset, length = start + 8, int.from_bytes(head[4:8], order)
    else:  # tag, OB or OW, two bytes, length
        offset, length = start + 12, int.from_bytes(head[8:12], order)
    in_fragments = length == _UNDEFINED_LENGTH
    return PixelElement(
        offset=offset,
        length=-1 if in_fragments else length,
        available=size - offset,
        is_open=in_fragments and not _fragments_end(stream, offset, size),
        is_float=head[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"),
    )


def _fragments_end(stream: Any, offset: int, size: int) -> bool:
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


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read {error.filename}: {error.strerror}.") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            yield Path(root) / name


def _files_named_by(directory: Path) -> Iterator[Path]:
    """Yield the files that a DICOMDIR refers to (PS3.3 F.3), nothing if it is damaged."""
    import pydicom  # noqa: PLC0415 - an optional package

    try:
        for record in pydicom.dcmread(directory).get("DirectoryRecordSequence") or ():
            parts = record.get("ReferencedFileID") or ()
            if parts:
                names = [parts] if isinstance(parts, str) else parts
                yield _as_on_disk(directory.parent.joinpath(*names))
    except Exception as error:  # it is an aid: the files themselves are read either way
        _log.debug("%s cannot be read: %s", directory, error)


def _as_on_disk(path: Path) -> Path:
    """Return a path in the letters of the file system: discs are copied with changed case."""
    lower = path.with_name(path.name.lower())
    return lower if not path.exists() and lower.exists() else path
