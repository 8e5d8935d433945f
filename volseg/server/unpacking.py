"""Unpacking of zipped DICOM series, of which nothing but the bytes of DICOM files is believed."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO

from volseg.errors import InputError
from volseg.server.content import suffix_of_content

_CHUNK = 1 << 20
_MOST_TIMES = 200  # CT and MR shrink to a half or a fifth, empty slices to a hundredth
_ALWAYS_ALLOWED = 64 << 20  # however well it was packed


def unpack_dicom(archive: Path, folder: Path, *, most_files: int, most_bytes: int) -> int:
    """Unpack the DICOM files of a zip into a folder, by number, and return how many there were.

    Names in the archive are not used, so that none can lead out of the folder; links are not
    followed, directories and files of other kinds are left out.

    Args:
        archive: the zip.
        folder: made if missing.
        most_files: entries that an archive may have.
        most_bytes: that it may become; counted as they come, whatever the archive says.

    Raises:
        InputError: it is damaged, encrypted or a bomb, or holds no DICOM file; what was unpacked
            until then stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = archive.stat().st_size
    budget = min(most_bytes, max(_ALWAYS_ALLOWED, packed * _MOST_TIMES))
    found = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > most_files:
                raise InputError(
                    f"the zip has {len(entries):,} entries; this server takes {most_files:,}."
                )
            for entry in entries:
                if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
                    continue
                target = folder / f"{found:06}.dcm"
                with opened.open(entry) as source, target.open("wb") as written:
                    budget -= _copied(source, written, budget)
                if _is_image(target, most_bytes):
                    found += 1
                else:
                    target.unlink()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is how `zipfile` says that a password is needed.
        raise InputError(f"the zip cannot be unpacked ({error}): pack it again.") from error
    if not found:
        raise InputError("the zip holds no DICOM file: send the files of one series.")
    return found


def _copied(source: IO[bytes], target: IO[bytes], budget: int) -> int:
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > budget:
            raise InputError("the zip becomes larger than this server takes: send one series.")
        target.write(chunk)
    return copied


def _is_image(path: Path, most_bytes: int) -> bool:
    try:
        return suffix_of_content(path, most_bytes=most_bytes) == ".dcm"
    except InputError:
        return False
