"""Options for a case whose channels are images of their own: see `given`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from volseg.cli.option_groups import options_under
from volseg.cli.segment_remote import RemoteSeries
from volseg.errors import InputError

_option = options_under("Channels")


@dataclass(frozen=True)
class Channels:
    """The image of each channel of a case, by name."""

    images: Mapping[str, Path | RemoteSeries]

    def __str__(self) -> str:
        """Return them as they can be given again."""
        return ", ".join(f"{name}={image}" for name, image in self.images.items())


@dataclass(frozen=True)
class NamedCase:
    """What the options say of a case: its name, if it has one, and where its channels are."""

    name: str | None
    inputs: Mapping[str, str]


def named_case(
    channel: Annotated[
        list[str] | None,
        _option(
            metavar="NAME=INPUT",
            help="An image file or DICOM series that is one channel; again for each channel.",
        ),
    ] = None,
    case: Annotated[
        str | None, _option(help="Name of the case of --channel; as its first file without it.")
    ] = None,
) -> NamedCase:
    """Return what the options say.

    Raises:
        InputError: if one cannot be read.
    """
    inputs: dict[str, str] = {}
    for text in channel or ():
        name, _, given = (part.strip() for part in text.partition("="))
        if not (name and given):
            raise InputError(
                f"--channel {text!r} cannot be read: expected NAME=INPUT, such as t1=t1.nii.gz."
            )
        if name in inputs:
            raise InputError(f"the channel {name} is given twice.")
        inputs[name] = given
    if case is not None and not inputs:
        raise InputError("--case names the case of --channel: give that, too, or leave it out.")
    if case is not None and (Path(case).name != case or case in ("", ".", "..")):
        raise InputError(f"--case {case!r} cannot name files: expected a word without slashes.")
    return NamedCase(case, inputs)
