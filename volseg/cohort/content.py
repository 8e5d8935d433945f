"""Whether the images of a case are still what they were: a quick look, and a sure one.

As Git does it: files of the same size and time of change are taken to be the same; where they
differ, their content decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from volseg.errors import InputError

# Headers whose voxels lie in another file of the same name.
_DETACHED = (".hdr", ".mhd", ".nhdr")


def stamp_of(inputs: Mapping[str, Path]) -> str:
    """Return a SHA-256 over paths, sizes and times of change of the files of a case.

    Args:
        inputs: File or folder of each channel.

    Raises:
        InputError: One is not there, or cannot be looked at.
    """
    stamps = []
    for path in (file for source in inputs.values() for file in files_of(source)):
        try:
            found = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        stamps.append((str(path), found.st_size, found.st_mtime_ns))
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def digest_of(inputs: Mapping[str, Path], series: str | Mapping[str, str] | None = None) -> str:
    """Return a SHA-256 over the content of the files of a case, wherever they lie.

    Args:
        inputs: File or folder of each channel.
        series: Which series of a folder is meant, or of the folder of each channel.

    Raises:
        InputError: A file cannot be read.
    """
    from volseg.data import hash_files  # noqa: PLC0415 - loads torch

    digests = {}
    for channel, source in inputs.items():
        try:
            digests[channel] = hash_files(files_of(source))
        except OSError as error:
            raise _unreadable(source, error) from error
    text = json.dumps([digests, series], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(source: Path) -> list[Path]:
    """Return the files that an image consists of, sorted.

    Raises:
        InputError: There is none.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
    elif source.suffix.lower() in _DETACHED:
        beside = source.parent.iterdir() if source.is_file() else ()
        files = sorted(path for path in beside if path.stem == source.stem and path.is_file())
    else:
        files = [source] if source.is_file() else []
    if not files:
        raise InputError(f"cannot read {source}: there is no such file or folder.")
    return files


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {path}: {error.strerror or error}.")
