"""What a caller may say about the reading of an image: where it is, and how it is to be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from volseg.errors import InputError

ImagePath = str | os.PathLike[str]
"""An image file, or a folder with a DICOM series."""
ImageSource = ImagePath | Mapping[str, ImagePath]
"""One image: its path, or the path of each of its channels by name, in their order."""


class ReadingOptions(TypedDict, total=False):
    """The keyword arguments of `read_image`, which says what they mean."""

    orientation: str | None
    series: str | Mapping[str, str] | None
    orthogonal: bool
    irregular: str | None
    suv: bool | Mapping[str, bool]
    onto_first: bool


class FileReading(TypedDict, total=False):
    """What is said about the reading of one file or series."""

    orientation: str | None
    series: str | None
    orthogonal: bool
    irregular: str | None
    suv: bool


def describe_source(source: ImageSource) -> str:
    """Return the path of an image, or of each of its channels, for messages."""
    if isinstance(source, Mapping):
        return ", ".join(f"{name}={path}" for name, path in source.items())
    return str(source)


def reading_of_file(reading: ReadingOptions, source: ImagePath) -> FileReading:
    """Return how an image that is one file or series is read.

    Raises:
        InputError: if an option is meant for the channels of an image.
    """
    found = dict(reading)
    named = [name for name, value in found.items() if isinstance(value, Mapping)]
    if found.pop("onto_first", False):
        named.append("onto_first")
    if named:
        raise InputError(
            f"cannot read {source} with {' and '.join(named)} for channels: it is one image; name "
            "the files of its channels, or leave the option out."
        )
    return cast(FileReading, found)


def reading_of_channel(reading: ReadingOptions, channel: str) -> FileReading:
    """Return how one channel of an image is read; names of channels are in any case."""
    found: dict[str, Any] = {}
    for option, value in reading.items():
        by_name = value if isinstance(value, Mapping) else {channel: value}
        for name, one in by_name.items():
            if name.casefold() == channel.casefold() and option != "onto_first":
                found[option] = one
    return cast(FileReading, found)


def first_file(source: ImageSource, reading: ReadingOptions) -> tuple[ImagePath, FileReading]:
    """Return the path of an image, or of its first channel, and how that is read."""
    if not isinstance(source, Mapping):
        return source, reading_of_file(reading, source)
    channel, path = next(iter(source.items()))
    return path, reading_of_channel(reading, channel)
