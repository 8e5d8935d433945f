"""DICOM files (PS3.10) as they come and go: which instance one holds, and whether all of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.atomic import replacing
from volseg.errors import InputError, MissingPackageError, VolsegError
from volseg.io.folders import walked
from volseg.pacs.server import Instance

if TYPE_CHECKING:
    from pydicom import Dataset

_PREAMBLE = 128
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LARGE = 4096
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL")


def is_part10(path: Path) -> bool:
    """Return whether a file carries the mark of a DICOM file.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error


def files_of(inputs: list[Path], *, without: Path | None = None) -> Iterator[Path]:
    """Yield the DICOM files among files and in folders, at any depth, in order of their names.

    Other files in folders are passed over, and so are directories of media (DICOMDIR). Links to
    folders are followed after all others.

    Args:
        inputs: files and folders.
        without: a folder within them that is not looked into, such as that of the results.

    Raises:
        InputError: if an input is missing, cannot be read, or is a file and not a DICOM file.
    """
    for path in inputs:
        if path.is_dir():
            yield from (
                file
                for file in _inner_files(path, None if without is None else without.resolve())
                if file.is_file() and is_part10(file) and not _is_directory_of_media(file)
            )
        elif not path.exists():
            raise InputError(f"there is no file or folder {path}.")
        elif not is_part10(path):
            raise InputError(f"{path} is not a DICOM file: give DICOM files or folders of them.")
        else:
            yield path


def _inner_files(folder: Path, left_out: Path | None) -> Iterator[Path]:
    for inner, folders, names in walked(folder):
        folders[:] = [name for name in folders if (inner / name).resolve() != left_out]
        yield from map(inner.joinpath, names)


def read_dataset(path: Path, *, header_only: bool = False) -> Dataset:
    """Return what a DICOM file holds.

    Args:
        path: the file.
        header_only: leave the pixels out.

    Raises:
        InputError: if it cannot be read as DICOM.
        MissingPackageError: if pydicom is not installed.
    """
    return _reading(path, lambda pydicom: pydicom.dcmread(path, stop_before_pixels=header_only))


def instance_in(path: Path) -> Instance:
    """Return which instance a file holds.

    Raises:
        InputError: if it cannot be read, or does not say.
    """
    return instance_of(read_dataset(path, header_only=True), str(path))


def instance_of(dataset: Dataset, source: str) -> Instance:
    """Return which instance a dataset is.

    Args:
        dataset: with its file meta information.
        source: where it is from, for errors.

    Raises:
        InputError: if it does not say.
    """
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    uids = [str(dataset.get(keyword) or "") for keyword in keywords]
    missing = [keyword for keyword, uid in zip(keywords, uids, strict=True) if not uid]
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") or "")
    if not syntax:
        missing.append("TransferSyntaxUID")
    if missing:
        raise InputError(
            f"{source} is not a whole DICOM instance: it has no {' and no '.join(missing)}."
        )
    study, series, uid, kind = uids
    return Instance(study, series, uid, kind, syntax)


def damage(path: Path) -> str | None:
    """Return what is wrong with a DICOM file that was cut off or overwritten, None if nothing is.

    Elements must follow one another to the very end of the file, and native pixels must be as many
    as the header says. A cut exactly between two elements of a file without pixels goes unseen.
    """
    try:
        reached = _reading(path, _end_of_elements(path))
        if reached != path.stat().st_size:
            return "it ends within an element"
        found: str | None = _reading(path, lambda pydicom: _pixel_damage(pydicom, path))
    except InputError as error:
        return str(error)
    return found


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file that is whole or not there.

    Raises:
        OutputError: if it cannot be written.
        InputError: if the dataset cannot be encoded, or what was written is not whole.
    """
    uid = str(dataset.get("SOPInstanceUID") or "without a SOP Instance UID")
    with replacing(path) as temporary:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset.save_as(temporary, enforce_file_format=True)
        except OSError:
            raise
        except Exception as error:
            raise InputError(
                f"the instance {uid} cannot be written as a DICOM file ({type(error).__name__}: "
                f"{error})."
            ) from error
        if (found := damage(temporary)) is not None:
            raise InputError(f"the instance {uid} is not whole: {found}.")


def _is_directory_of_media(path: Path) -> bool:
    try:
        meta = _reading(path, lambda pydicom: pydicom.filereader.read_file_meta_info(path))
    except InputError:
        return False  # it is read again, and named, by whoever wants what is in it
    return bool(meta.get("MediaStorageSOPClassUID") == _DIRECTORY)


def _reading(path: Path, read: Callable[[Any], Any]) -> Any:
    """Read with pydicom; whatever is wrong with the file becomes one sentence."""
    try:
        import pydicom  # noqa: PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError("reading DICOM", "pydicom", "dicom") from error
    try:
        # Scanners break the rules on value formats, of which pydicom warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(pydicom)
    except VolsegError:
        raise
    except OSError as error:
        if error.strerror:
            raise InputError(f"cannot read {path}: {error.strerror}.") from error
        raise _damaged(path, error) from error
    except Exception as error:  # pydicom raises many types
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    kind = type(error).__name__
    return InputError(f"cannot read {path}: it is not DICOM, or damaged ({kind}).")


def _end_of_elements(path: Path) -> Callable[[Any], int]:
    """Return a reading that gives the position behind the last whole element."""

    def walk(pydicom: Any) -> int:
        syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
        size = path.stat().st_size
        if syntax == _DEFLATED:  # the decompression of a part fails by itself
            pydicom.dcmread(path)
            return size
        with path.open("rb") as stream:
            pydicom.filereader.read_partial(stream, stop_when=lambda *_: True)
            end = stream.tell()  # behind the file meta information
            for element in pydicom.filereader.data_element_generator(
                stream, syntax.is_implicit_VR, syntax.is_little_endian, defer_size=_LARGE
            ):
                length = getattr(element, "length", _UNDEFINED_LENGTH)
                known = length != _UNDEFINED_LENGTH
                end = element.value_tell + length if known else stream.tell()
                if end > size:
                    break
        return end

    return walk


def _pixel_damage(pydicom: Any, path: Path) -> str | None:
    from pydicom.pixels.utils import get_expected_length  # noqa: PLC0415 - an optional package

    dataset = pydicom.dcmread(path, defer_size=_LARGE)
    instance = instance_of(dataset, str(path))
    kind = pydicom.uid.UID(instance.sop_class).name
    # A Surface Segmentation is meshes.
    is_image = "Image" in kind or ("Segmentation" in kind and "Surface" not in kind)
    if not any(keyword in dataset for keyword in _PIXELS):
        return "it has no pixels" if is_image or "Rows" in dataset else None
    if "PixelData" not in dataset or pydicom.uid.UID(instance.transfer_syntax).is_compressed:
        return None
    try:
        found, expected = len(dataset.PixelData), get_expected_length(dataset)
    except (AttributeError, TypeError, ValueError):  # a header that does not say how many
        return None
    return f"it has {found} bytes of pixels, expected {expected}" if found < expected else None
