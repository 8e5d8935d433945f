"""Files of a folder, a DICOMDIR or a single path: the headers of DICOM images, and all the rest.

Only headers are read. A file that is no image, or is damaged, is named with the reason and stops
nothing else.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from volseg.errors import InputError, MissingPackageError
from volseg.io.dicom.header import Header, KnownValues
from volseg.io.dicom.header_reading import (
    FileHeader,
    PixelElement,
    first_bytes,
    is_marked,
    read_header,
)
from volseg.io.folders import files_below, holds_dicom
from volseg.io.formats import format_of_name

# Called with how many files are read, and of how many.
Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)

# Files from before the preamble was required begin with their first element, in group 0002 or 0008.
_OLD_STARTS = (b"\x02\x00", b"\x08\x00")
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: a DICOMDIR
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
        object_class: SOP Class UID of a DICOM object that is no image; else empty.
    """

    path: Path
    reason: str
    is_damaged: bool = False
    is_copy: bool = False
    series_uid: str = ""
    object_class: str = ""


@dataclass(frozen=True)
class HeaderFile:
    """The header of a DICOM image.

    Attributes:
        path: where the file lies.
        header: the elements before the pixels.
        transfer_syntax: UID of the encoding.
        pixels: where these lie.
        size: bytes of the file.
    """

    path: Path
    header: Header
    transfer_syntax: str
    pixels: PixelElement
    size: int


def read_headers(path: Path, progress: Progress | None = None) -> Iterator[HeaderFile | UnusedFile]:
    """Yield every file below a folder, in the order of `files_below`, or the given one.

    Args:
        path: a folder, searched at any depth; a DICOM file; or a DICOMDIR, which stands for the
            folder it lies in: files that it names and that are not there are yielded as damaged.
        progress: called with the number of files that are read, and of all.

    Raises:
        InputError: if a folder cannot be listed, or holds images of other formats and no DICOM.
        MissingPackageError: if pydicom is not installed.
    """
    try:
        require_pydicom()
    except MissingPackageError:
        # Nothing is to be installed for images of other formats.
        advice = ""
        if path.is_dir() and not holds_dicom(path, at_any_depth=True):
            advice = where_images_lie(files_below(path))
        if advice:
            raise InputError(f"cannot read {path}: it holds no DICOM image; {advice}.") from None
        raise
    known: KnownValues = {}
    if path.is_file() and path.name.upper() != "DICOMDIR":
        yield _read_file(path, known)
        return
    files = list(files_below(path if path.is_dir() else path.parent))
    for number, file in enumerate(files, start=1):
        yield _read_file(file, known)
        if progress is not None:
            progress(number, len(files))
    seen = {str(file).casefold() for file in files}  # discs are copied with changed case
    for directory in files:
        if directory.name.upper() != "DICOMDIR":
            continue
        for file in _files_named_by(directory):
            if str(file).casefold() not in seen:
                reason = f"named by {directory}, but not there"
                yield UnusedFile(file, reason, is_damaged=True)


def where_images_lie(files: Iterable[Path]) -> str:
    """Return what to give instead of a folder, if files in it are images of other formats."""
    for file in files:
        if format_of_name(file) is not None and not file.name.startswith("."):
            return (
                f"it holds image files such as {file}: give these or, to segment them, the folders "
                "that they lie in (`volseg cohort run` takes a whole tree)"
            )
    return ""


def require_pydicom() -> None:
    """Raise a sentence if pydicom, an optional package, is not installed."""
    try:
        import pydicom  # noqa: F401, PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error


class _PydicomSilence:
    """Silence what pydicom warns of and logs, in all threads: both are of the process.

    The first to enter brings it about, and the last to leave ends it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                logger = logging.getLogger("pydicom")
                self._undo.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.ERROR)
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


_silence = _PydicomSilence()


def without_pydicom_warnings() -> AbstractContextManager[None]:
    """Silence what pydicom says of values that break the rules of their type.

    Scanners do as they like with them, and pydicom warns on behalf of whoever called it, and logs;
    what matters here is checked by value.
    """
    return _silence


def _read_file(path: Path, known: KnownValues) -> HeaderFile | UnusedFile:
    """Return the header of a DICOM image, or why the file is none."""
    start = b""
    try:
        with path.open("rb") as stream:
            start = first_bytes(stream)
            if not is_marked(start) and start[:2] not in _OLD_STARTS:
                return UnusedFile(path, "not a DICOM file" if start else "an empty file")
            return _checked(path, read_header(stream, start, known), is_marked(start))
    except OSError as error:
        return UnusedFile(path, f"cannot be opened ({error.strerror or error})", is_damaged=True)
    except Exception as error:
        # pydicom raises many types.
        if is_marked(start):
            reason = f"a damaged DICOM file ({type(error).__name__})"
            return UnusedFile(path, reason, is_damaged=True)
        _log.debug("%s is not a DICOM file: %s", path, error)
        return UnusedFile(path, "not a DICOM file")


def _checked(path: Path, file: FileHeader, marked: bool) -> HeaderFile | UnusedFile:
    header = file.header
    missing = [name for name in _IMAGE_TAGS if header.get(name) in (None, "")]
    if not missing and file.pixels is not None:
        return HeaderFile(path, header, file.transfer_syntax, file.pixels, file.size)
    sop_class = str(header.get("SOPClassUID") or "")
    if _DIRECTORY in (sop_class, file.media_class):
        return UnusedFile(path, "a directory of files (DICOMDIR)")
    if not (marked or sop_class):
        return UnusedFile(path, "not a DICOM file")
    uid = str(header.get("SeriesInstanceUID") or "")
    if not sop_class and len(missing) == len(_IMAGE_TAGS):
        reason = "a DICOM file that ends before it says what it is"
        return UnusedFile(path, reason, is_damaged=True, series_uid=uid)
    kind = class_name(sop_class)
    if len(missing) == len(_IMAGE_TAGS) and "Image" not in kind:
        return UnusedFile(path, f"no image: {kind}", series_uid=uid, object_class=sop_class)
    lacking = ", ".join(missing) or "pixels: it is cut short"
    return UnusedFile(path, f"an image without {lacking}", is_damaged=True, series_uid=uid)


def class_name(uid: str) -> str:
    """Return the name of a SOP class, such as "CT Image"; its UID where that is not known."""
    from pydicom.uid import UID  # noqa: PLC0415 - an optional package

    return str(UID(uid).name).removesuffix(" Storage")


def _files_named_by(directory: Path) -> Iterator[Path]:
    """Yield the files that a DICOMDIR refers to (PS3.3 F.3), nothing if it is damaged."""
    import pydicom  # noqa: PLC0415 - an optional package

    try:
        for record in pydicom.dcmread(directory).get("DirectoryRecordSequence") or ():
            parts = record.get("ReferencedFileID") or ()
            if parts:
                names = [parts] if isinstance(parts, str) else parts
                yield directory.parent.joinpath(*names)
    except Exception as error:  # it is an aid: the files themselves are read either way
        _log.debug("%s cannot be read: %s", directory, error)
