"""What a folder stands for: the image files in it, or DICOM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from volseg.errors import InputError
from volseg.io.formats import SUFFIXES

# The second file of a NIfTI pair is found through its .hdr.
IMAGE_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".img")
# Objects that are made of images and kept beside them, by the beginning of their class (PS3.4 B.5):
# presentation states, parametric maps, segmentations, reports, documents, doses, structures, plans.
_MADE_OF_IMAGES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{number}."
    for number in ("11", "30", "66", "88", "104", "481.2", "481.3", "481.5")
)
# Media Storage SOP Class UID, its tag and type; it is among the first elements (PS3.10 7.1).
_MEDIA_CLASS = b"\x02\x00\x02\x00UI"
_START = 1024  # bytes
# Folders at the root of a disk that are the system's, which nobody may list.
_OF_THE_SYSTEM = {"lost+found", "system volume information", "$recycle.bin"}


def walked(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield a folder and those below it, each with the names of folders and files in it, sorted.

    Links to folders are followed once all other folders are met. None is yielded twice, and a link
    to a folder that it lies in leads nowhere. What is taken out of the names of folders is not
    looked into.

    Raises:
        InputError: if a folder cannot be listed, but for those that the system keeps on a disk.
    """

    def refuse(error: OSError) -> None:
        if Path(str(error.filename)).name.lower() in _OF_THE_SYSTEM:
            return
        raise InputError(f"cannot read {error.filename}: {error.strerror}.") from error

    met: set[Path] = set()
    starts = [folder]
    for start in starts:  # which grow by the links that are met
        for place, folders, names in os.walk(start, onerror=refuse):
            inner = Path(place)
            real = inner.resolve()
            if real in met:
                folders.clear()
                continue
            met.add(real)
            folders.sort()
            yield inner, folders, sorted(names)
            starts += [
                link
                for link in map(inner.joinpath, folders)
                if link.is_symlink() and not real.is_relative_to(link.resolve())
            ]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, hidden ones as well, in the order of `walked`.

    Raises:
        InputError: if a folder cannot be listed.
    """
    for inner, _, names in walked(folder):
        yield from map(inner.joinpath, names)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in a folder, sorted; none of a folder that holds DICOM images.

    Pictures and tables that lie beside DICOM images came with them. Hidden files are left out.

    Raises:
        InputError: if the folder cannot be listed.
    """
    visible = list(_visible(Path(folder)))
    files = [path for path in visible if _is_image(path)]
    others = (path for path in visible if not _is_image(path))
    return [] if files and any(_is_dicom_image(path) for path in others) else files


def holds_dicom(folder: str | os.PathLike[str], *, at_any_depth: bool = False) -> bool:
    """Return whether a DICOM file lies in a folder, told by its first bytes.

    Args:
        folder: an existing folder.
        at_any_depth: whether it may lie in a folder within it, too.

    Raises:
        InputError: if the folder cannot be listed.
    """
    for inner, folders, names in walked(Path(folder)):
        folders[:] = [name for name in folders if at_any_depth and not name.startswith(".")]
        files = (inner / name for name in names if not name.startswith("."))
        if any(not _is_image(file) and _class_of_dicom(file) is not None for file in files):
            return True
    return False


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


def _is_dicom_image(path: Path) -> bool:
    object_class = _class_of_dicom(path)
    return object_class is not None and not f"{object_class}.".startswith(_MADE_OF_IMAGES)


def _class_of_dicom(path: Path) -> str | None:
    """Return the class of a DICOM object as its file states it, empty without; None of others."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_START)
    except OSError:
        return None
    if start[128:132] != b"DICM":
        return None
    value = start[132:].partition(_MEDIA_CLASS)[2]
    length = int.from_bytes(value[:2], "little")
    return value[2 : 2 + length].decode("latin-1").rstrip(" \0")
