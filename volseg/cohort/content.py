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
from volseg.io import files_of_image
from volseg.io.folders import files_below


def stamp_of(inputs: Mapping[str, Path], series: str | Mapping[str, str] | None = None) -> str:
    """Return a SHA-256 over paths, sizes and times of change of the files of a case.

    Of a folder of several series all files count, as none of them is opened.

    Args:
        inputs: File or folder of each channel.
        series: Which series of a folder is meant, or of the folder of each channel.

    Raises:
        InputError: One is not there, or cannot be looked at.
    """
    stamps = []
    for path in (file for source in inputs.values() for file in files_of(source)):
        try:
            found = path.stat()
        except (OSError, ValueError) as error:  # of a name that no file can have, too
            raise _unreadable(path, error) from error
        stamps.append((str(path), found.st_size, found.st_mtime_ns))
    return hashlib.sha256(json.dumps([stamps, series], sort_keys=True).encode()).hexdigest()


def digest_of(inputs: Mapping[str, Path], series: str | Mapping[str, str] | None = None) -> str:
    """Return a SHA-256 over the content of the files of a case, wherever they lie.

    Of a folder of several series only the files of the one that is meant count.

    Args:
        inputs: File or folder of each channel.
        series: Which series of a folder is meant, or of the folder of each channel.

    Raises:
        InputError: A file cannot be read.
        MissingPackageError: A series is meant, and pydicom is not installed.
    """
    from volseg.data import hash_files  # noqa: PLC0415 - loads torch

    digests = {}
    for channel, source in inputs.items():
        try:
            uid = series.get(channel) if isinstance(series, Mapping) else series
            digests[channel] = hash_files(_files_of_series(source, uid))
        except OSError as error:
            raise _unreadable(source, error) from error
    text = json.dumps([digests, series], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(source: Path) -> list[Path]:
    """Return the files that an image consists of, those its header names among them, sorted.

    Raises:
        InputError: There is none, or a folder or the header cannot be read.
    """
    if source.name.upper() == "DICOMDIR":  # stands for the folder it lies in
        source = source.parent
    if source.is_dir():
        files = sorted(path for path in files_below(source) if path.is_file())
    else:
        files = sorted(files_of_image(source)) if source.is_file() else []
    if not files:
        raise InputError(f"cannot read {source}: there is no such file or folder.")
    return files


def _files_of_series(source: Path, uid: str | None) -> list[Path]:
    """Return the files of a series, its damaged ones and copies as well; all if none is meant."""
    if uid is None or source.is_file():
        return files_of(source)
    from volseg.io.dicom import find_series  # noqa: PLC0415 - loads numpy and scipy

    for series in find_series(source):
        if series.uid == uid:
            frames = {frame.path for frame in series.frames}
            return sorted(frames | {file.path for file in series.unused})
    return files_of(source)  # reading it will say what is there


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else None
    return InputError(f"cannot read {path}: {reason or error}.")
