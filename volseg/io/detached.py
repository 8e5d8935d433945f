"""Images of several files: a header, and others that it names and that hold the voxels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from volseg.errors import InputError
from volseg.io.formats import ImageFormat, format_of_name

_LONGEST_HEADER = 1 << 20
_MOST_FILES = 100_000
# "slice%03d.raw 1 90 1": numbered files, from, to and step, in NRRD with their dimensions; in
# MetaImage, of which there are as many as slices, the numbers may be left out from the end.
_NUMBERED = re.compile(r"([^%]*%\d*d[^%]*?)((?:\s+-?\d+){0,4})")
_FIELDS = {
    ImageFormat.NRRD: (":", ("data file", "datafile")),
    ImageFormat.METAIMAGE: ("=", ("elementdatafile",)),
}


def files_of_image(path: Path) -> list[Path]:
    """Return the files that an image file consists of: itself, and those that hold its voxels.

    Args:
        path: an existing file; whether the others exist is not looked at.

    Raises:
        InputError: if its header cannot be read, or names more files than an image can have.
    """
    kind = format_of_name(path)
    if kind is ImageFormat.NIFTI_PAIR:
        return list(pair_of(path))
    if kind not in _FIELDS:
        return [path]
    try:
        with path.open("rb") as stream:
            names = _named_in_header(_lines(stream), *_FIELDS[kind])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    if len(names) > _MOST_FILES:
        raise InputError(
            f"cannot read {path}: its header names more than {_MOST_FILES:,} files of voxels; "
            "convert the image again from its source."
        )
    return [path, *(path.parent / name for name in names)]


def pair_of(path: Path) -> tuple[Path, Path]:
    """Return the header and the voxels of a NIfTI pair that is named by either."""
    upper = path.suffix.isupper()
    header, voxels = (path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img"))
    return header, voxels


def _lines(stream: BinaryIO) -> Iterator[str]:
    left = _LONGEST_HEADER
    while line := stream.readline(left):
        left -= len(line)
        yield line.decode("utf-8", "surrogateescape").strip()


def _named_in_header(lines: Iterator[str], sign: str, fields: tuple[str, ...]) -> list[str]:
    """Return the files that the field of a header names; none where the voxels follow it."""
    slices = 0
    for line in lines:
        field, _, value = line.partition(sign)
        name = field.strip().lower()
        if name == "dimsize":  # of MetaImage
            slices = _last_number(value)
        if name in fields:
            return _meant(value.strip(), lines, slices)
        if not line and sign == ":":  # where the header of an NRRD ends
            break
    return []


def _last_number(text: str) -> int:
    words = text.split()
    return int(words[-1]) if words and words[-1].isdecimal() else 0


def _meant(value: str, following: Iterator[str], slices: int) -> list[str]:
    if value.upper() == "LOCAL":
        return []
    if value.upper().split()[:1] == ["LIST"]:
        return [line for line in following if line]
    numbered = _NUMBERED.fullmatch(value)
    if numbered is None:
        return [value]
    numbers = [int(number) for number in numbered[2].split()]
    if len(numbers) < 2 and slices:
        first = numbers[0] if numbers else 1
        numbers = [first, first + slices - 1, 1]
    if len(numbers) < 3 or numbers[2] == 0:
        return [value]
    first, last, step = numbers[:3]
    every = range(first, last + (1 if step > 0 else -1), step)
    # One more is enough to tell that there are too many.
    return [numbered[1] % number for number in every[: _MOST_FILES + 1]]
