"""Hashes and stamps of data, to tell what a result was made from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from volseg.errors import InputError
from volseg.io import files_of_image
from volseg.io.folders import files_below

# Files change unseen within a tick of the clock that stamps them: what is younger is read again.
_SETTLED_SECONDS = 2.0
_REMEMBERED = 2**16


def hash_files(paths: Iterable[str | Path]) -> str:
    """Return one SHA-256 over the names and contents of files, whatever their order and folder.

    A folder, as of DICOM files, stands for the files below it, and a header for itself and the
    files of voxels that it names. What one process has read once it does not read again, unless
    the stamps of the file say that it changed.
    """
    digests: list[str] = []
    for path in map(Path, paths):
        digests += [f"{file.name}:{_digest(file)}" for file in _files_of(path)]
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def file_stamps(path: str | Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of each of the files that `hash_files` takes a path for.

    They are looked at, not read. A header that says nothing of its voxels stands for itself:
    whoever reads the image says what is wrong with it.
    """
    try:
        files = _files_of(Path(path))
    except InputError:
        files = [Path(path)]
    states = [(file, file.stat()) for file in files]
    return [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(files_below(path))
    else:
        files = files_of_image(path) if path.is_file() else []
    return [file for file in files if file.is_file()]


def _digest(file: Path) -> str:
    stamps = file.stat()
    if time.time() - stamps.st_mtime < _SETTLED_SECONDS:
        return _read(file)
    return _remembered(file.absolute(), (stamps.st_ino, stamps.st_size, stamps.st_mtime_ns))


@lru_cache(maxsize=_REMEMBERED)
def _remembered(file: Path, _stamps: tuple[int, int, int]) -> str:
    return _read(file)


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
