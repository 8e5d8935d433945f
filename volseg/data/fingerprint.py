"""Hashes of data, to tell what a result was made from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from volseg.io import files_of_image

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
        files = files_of_image(path) if path.is_file() else path.rglob("*")
        digests += [f"{file.name}:{_digest(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


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
