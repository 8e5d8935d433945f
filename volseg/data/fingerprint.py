"""What data a result was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_files(paths: Iterable[str | Path]) -> str:
    """Return one SHA-256 over the names and contents of files, whatever their order and folder."""
    digests: list[str] = []
    for path in map(Path, paths):
        with path.open("rb") as file:
            digests.append(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
