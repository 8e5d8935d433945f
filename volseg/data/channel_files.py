"""Cases whose channels are files of their own, found by how folders are laid out.

Two ways are known. nnU-Net's: one folder, and the number of the channel after the name of the case,
``liver_0000.nii.gz`` and ``liver_0001.nii.gz``. Or a folder for each channel, called by its name,
with the same file names in all: ``t1/liver.nii.gz`` and ``flair/liver.nii.gz``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from volseg.errors import InputError
from volseg.io import image_files, image_name

T = TypeVar("T")

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


def channel_files(folder: Path, channels: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Return the file of each channel, in order, for each case of a folder.

    Args:
        folder: Laid out in one of the two ways.
        channels: Names of the channels, in order.

    Returns:
        Nothing if the folder is laid out in neither way: then each file has all the channels.

    Raises:
        InputError: A case lacks a channel, has another one, or has one twice.
    """
    subfolders = {path.name.casefold(): path for path in folder.iterdir() if path.is_dir()}
    if all(name.casefold() in subfolders for name in channels):
        found = {
            name: by_name(_named(image_files(subfolders[name.casefold()]))) for name in channels
        }
        cases = {case for files in found.values() for case in files}
        return _complete(
            {
                case: {name: files[case] for name, files in found.items() if case in files}
                for case in sorted(cases)
            },
            channels,
            folder,
        )
    files = _named(image_files(folder))
    numbered = _numbered(name for name, _ in files)
    if len(channels) == 1:
        # Cases themselves may be numbered; only 0000 throughout is a channel.
        are_channels = all(set(names) == {0} for names in numbered.values())
    else:
        are_channels = any(0 in names for names in numbered.values())
    if not are_channels:
        return {}
    path_of = by_name(files)
    named = {
        case: {
            (channels[number] if number < len(channels) else f"{number:04}"): path_of[name]
            for number, name in sorted(names.items())
        }
        for case, names in numbered.items()
    }
    return _complete(named, channels, folder)


def by_name(files: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return files by their names.

    Args:
        files: Name and path of each.

    Raises:
        InputError: Two have one name, such as ``a.nii.gz`` and ``a.nrrd``: either may be meant.
    """
    found: dict[str, T] = {}
    for name, file in files:
        if name in found:
            raise InputError(
                f"{found[name]} and {file} are both called {name}: leave only one of them there, "
                "or give each a name of its own."
            )
        found[name] = file
    return found


def _named(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    return [(image_name(path), path) for path in paths]


def _numbered(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """Return names by case and number; one without a number is a case that has none."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            found[name] = {}
        else:
            found[match["case"]][int(match["number"])] = name
    return found


def _complete(
    cases: Mapping[str, Mapping[str, Path]], channels: Sequence[str], folder: Path
) -> dict[str, dict[str, Path]]:
    """Refuse a case that does not have exactly the channels."""
    for case, files in cases.items():
        if set(files) != set(channels):
            numbers = ", ".join(f"{case}_{number:04}" for number in range(len(channels)))
            raise InputError(
                f"the case {case} in {folder} has the channels {', '.join(files) or 'none'}, but "
                f"{', '.join(channels)} are expected: give each case a file in a folder for each "
                f"channel, or files called {numbers} in one folder."
            )
    return {case: dict(files) for case, files in cases.items()}
