"""Unpacking of zipped DICOM series, of which nothing but the bytes of DICOM files is believed."""

from __future__ import annotations

import errno
import io
import lzma
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
_ENTRY_BYTES = 512  # in the directory of a zip: 46, and what its file is called
_LEAST_PIECE = 1 << 21  # larger than what the content of files is read in
# What `zipfile` says of damaged archives; RuntimeError is that a password is needed.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


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
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = archive.stat().st_size
    budget = min(most_bytes, max(_ALWAYS_ALLOWED, packed * _MOST_TIMES))
    found = 0
    try:
        with _Archive(archive, most_files) as stream, zipfile.ZipFile(stream) as opened:
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
    except (*_DAMAGED, OSError) as error:
        # Bzip2's data and positions that are none; the others are of the disk.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"the zip cannot be unpacked ({error}): pack it again.") from error
    if not found:
        raise InputError("the zip holds no DICOM file: send the files of one series.")
    return found


class _Archive(io.BufferedReader):
    """A zip that gives no large pieces.

    `zipfile` reads the directory in one piece, before it says how many entries there are, and that
    may be gigabytes.
    """

    def __init__(self, path: Path, most_files: int) -> None:
        super().__init__(io.FileIO(path))
        self._most_files = most_files
        self._most_bytes = max(_LEAST_PIECE, most_files * _ENTRY_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece; without a size the rest, which is asked for at the very end only.

        Raises:
            InputError: it is too large.
        """
        if size is not None and size > self._most_bytes:
            raise InputError(
                f"the directory of the zip is larger than {self._most_bytes:,} bytes, as it has "
                f"too many entries: this server takes {self._most_files:,}."
            )
        return super().read(size)


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
