"""What data a result was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_files(paths: Iterable[str | Path]) -> str:
    """Return one SHA-256 over the names and contents of files, whatever their order and folder.

    A folder, as of DICOM files, stands for the files below it.
    """
    digests: list[str] = []
    for path in map(Path, paths):
        files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
        for file in files:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            digests.append(f"{file.name}:{digest}")
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
