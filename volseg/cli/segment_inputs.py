"""Which cases the inputs of ``volseg segment`` are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volseg.cli.console import errors
from volseg.cli.segment_remote import RemoteSeries, find_remote
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.pacs import Connection


def find_cases(inputs: list[str], connection: Connection) -> dict[str, Path | RemoteSeries]:
    """Return the image of each case, by the name of the case.

    Args:
        inputs: image files, folders of images, DICOM folders, addresses of series on servers.
        connection: how servers are reached.

    Raises:
        InputError: if there is nothing, or two images would be written to one file.
        ServerError: if a server cannot be asked.
    """
    from volseg.io import image_name
    from volseg.pacs import is_address

    found: dict[str, Path | RemoteSeries] = {}
    for text in inputs:
        if is_address(text):
            remote = find_remote(text, connection)
            found[remote.found.series] = remote
            continue
        for image in _images(Path(text)):
            case = image_name(image.resolve())
            if case in found:
                raise InputError(
                    f"{found[case]} and {image} would both be written as {case}_seg: "
                    "segment them into different folders."
                )
            found[case] = image
    return found


def _images(path: Path) -> list[Path]:
    """Return the images that a path stands for: those in a folder, or itself a DICOM series."""
    from volseg.data import list_images
    from volseg.io import SUFFIXES

    if not path.exists():
        raise InputError(f"there is no file or folder {path}.")
    if not path.is_dir():
        return [path]
    entries = list(path.iterdir())
    if not entries:
        raise InputError(f"the folder {path} is empty: give a folder of images.")
    if not any(entry.name.lower().endswith(tuple(SUFFIXES)) for entry in entries):
        return [path]
    images = [Path(item["image"]) for item in list_images(path)]
    for folder in sorted(entry.name for entry in entries if entry.is_dir()):
        note = f"{path / folder} is not looked into: give it as an input too"
        errors.print(note, soft_wrap=True, markup=False)
    return images
