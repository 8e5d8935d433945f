"""Which cases the inputs of ``volseg segment`` are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.cli.channel_options import Channels, NamedCase
from volseg.cli.console import errors
from volseg.cli.segment_remote import RemoteSeries, find_remote
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.bundle import Bundle
    from volseg.cli.result_options import Results
    from volseg.pacs import Connection
    from volseg.segmenter import Segmenter

# What is written of a case, and of all of them.
_WRITTEN = re.compile(
    r"(.+)_(record|seg|labelmap|probabilities|rtstruct|sr|entropy|disagreement|preview)"
    r"\.(json|nii|nii\.gz|zarr|dcm|png)"
)
_TABLES = {"statistics.csv", "statistics.json"}

Source = Path | RemoteSeries | Channels
"""Where the image of a case is."""


def find_cases(
    inputs: list[str], named: NamedCase, bundle: Bundle, connection: Connection
) -> dict[str, Source]:
    """Return the image of each case, by the name of the case.

    Args:
        inputs: image files, folders of images, DICOM folders, addresses of series on servers.
        named: a case whose channels are given one by one.
        bundle: what the images are for.
        connection: how servers are reached.

    Raises:
        InputError: if there is nothing, or two images would be written to one file, or channels are
            not the bundle's.
        ServerError: if a server cannot be asked.
    """
    found: dict[str, Source] = {}
    if named.inputs:
        case, channels = _of_channels(named, bundle, connection)
        found[case] = channels
    for text in inputs:
        for case, source in _cases(text, bundle, connection):
            if case in found:
                raise InputError(
                    f"{found[case]} and {source} would both be written as {case}_seg: "
                    "segment them into different folders."
                )
            found[case] = source
    if not found:
        raise InputError("there is nothing to segment: give an INPUT, or --channel NAME=INPUT.")
    return found


def described(source: Source) -> Path | RemoteSeries:
    """Return the image that results refer to: of channels the first one."""
    return _images(source)[0]


def require_images_kept(
    cases: Mapping[str, Source], results: Results, segmenter: Segmenter
) -> None:
    """Refuse, before any work, results that would take the place of an image that was given.

    Raises:
        InputError: if some would.
    """
    given = {
        os.path.realpath(image): image  # a file is replaced where links to it lead
        for source in cases.values()
        for image in _images(source)
        if isinstance(image, Path)
    }
    for case in cases:
        files = results.files(case, segmenter.bundle.spatial_dims)
        for file in (*files.values(), *results.maps(case, segmenter.passes).values()):
            if image := given.get(os.path.realpath(file)):
                raise InputError(
                    f"the results of {case} would replace {image}, which is an image to segment: "
                    "write them into another folder (-o), or, if a run that was stopped left it "
                    "there, remove it."
                )


def _images(source: Source) -> list[Path | RemoteSeries]:
    return [*source.images.values()] if isinstance(source, Channels) else [source]


def _of_channels(named: NamedCase, bundle: Bundle, connection: Connection) -> tuple[str, Channels]:
    from volseg.io import in_channel_order

    images: dict[str, Path | RemoteSeries] = {}
    names = []
    for channel, text in named.inputs.items():
        name, images[channel] = _one_image(text, connection)
        names.append(name)
    ordered = in_channel_order(images, bundle.channels, f"the bundle {bundle.name}")
    return named.name or names[0], Channels(ordered)


def _cases(text: str, bundle: Bundle, connection: Connection) -> Iterator[tuple[str, Source]]:
    """Yield the cases that an input stands for: those in a folder, or one image or series.

    What an earlier run wrote into the folder is no image to segment.
    """
    from volseg.data import list_images
    from volseg.io import dicom_folders, image_files
    from volseg.segmenter import is_result

    path = Path(text)
    channels = bundle.channel_files
    entries = list(path.iterdir()) if path.is_dir() else []
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    by_channel = bool(channels) and {name.casefold() for name in channels} <= {
        name.casefold() for name in folders
    }
    if not by_channel and not (entries and image_files(path)):
        yield _one_image(text, connection)
        return
    items = [item for item in list_images(path, channels) if not is_result(path, item["case"])]
    if not items and dicom_folders(path):  # which is one image, as before results lay beside it
        yield _one_image(text, connection)
        return
    for item in items:
        image = item["image"]
        if isinstance(image, Mapping):
            yield item["case"], Channels({name: Path(one) for name, one in image.items()})
        else:
            yield _one_image(image, connection)
    for folder in [] if by_channel else folders:
        if _holds_results_only(path / folder):
            continue
        note = f"{path / folder} is not looked into: give it as an input too"
        errors.print(note, soft_wrap=True, markup=False)


def _holds_results_only(folder: Path) -> bool:
    """Return whether a folder holds what earlier runs wrote and nothing else, by its names."""
    from volseg.segmenter import RECORD_SUFFIX

    try:
        names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    except OSError:  # which a note will say
        return False
    written = [_WRITTEN.fullmatch(name) for name in names - _TABLES]
    return bool(written) and all(
        found is not None and f"{found[1]}{RECORD_SUFFIX}" in names for found in written
    )


def _one_image(text: str, connection: Connection) -> tuple[str, Path | RemoteSeries]:
    """Return the name and the place of one image.

    Raises:
        InputError: if nothing is there.
    """
    from volseg.io import image_name
    from volseg.io.folders import with_a_name
    from volseg.pacs import is_address

    if is_address(text):
        remote = find_remote(text, connection)
        return remote.found.series, remote
    path = Path(text)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}.")
    if path.is_dir() and not any(path.iterdir()):
        raise InputError(f"the folder {path} is empty: give a folder of images.")
    return image_name(with_a_name(path)), path
