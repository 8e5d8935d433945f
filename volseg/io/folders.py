"""What a folder stands for: the image files in it, or DICOM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from volseg.errors import InputError
from volseg.io.formats import SUFFIXES

# The second file of a NIfTI pair is found through its .hdr.
IMAGE_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".img")


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in a folder, sorted; none of a folder that holds DICOM files.

    Pictures and tables that lie beside DICOM files came with them. Hidden files are left out.

    Raises:
        InputError: if the folder cannot be listed.
    """
    files = [path for path in _visible(Path(folder)) if _is_image(path)]
    return [] if files and holds_dicom(folder) else files


def holds_dicom(folder: str | os.PathLike[str], *, at_any_depth: bool = False) -> bool:
    """Return whether a DICOM file lies in a folder, told by its first bytes.

    Args:
        folder: an existing folder.
        at_any_depth: whether it may lie in a folder within it, too.

    Raises:
        InputError: if the folder cannot be listed.
    """
    folders = []
    for path in _visible(Path(folder)):
        if path.is_dir():
            folders.append(path)
        elif not _is_image(path) and _is_dicom(path):
            return True
    return at_any_depth and any(holds_dicom(path, at_any_depth=True) for path in folders)


def dicom_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the folder itself if DICOM files lie in it, else those in it that hold some, sorted.

    Raises:
        InputError: if a folder cannot be listed.
    """
    source = Path(folder)
    if holds_dicom(source):
        return [with_a_name(source)]
    return [
        path for path in _visible(source) if path.is_dir() and holds_dicom(path, at_any_depth=True)
    ]


def with_a_name(path: Path) -> Path:
    """Return a path that ends in a name, which `.` and `..` do not; links keep their own."""
    return path.resolve() if path.name in ("", "..") else path


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}.") from error


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
