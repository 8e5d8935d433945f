"""Options of commands that read images: see `given`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from volseg.cli.option_groups import options_under
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.io import ReadingOptions

_option = options_under("Reading")


def reading(
    orientation: Annotated[
        str | None,
        _option(
            help="Axis codes such as RAS, which you vouch for, of files that state none.",
        ),
    ] = None,
    series: Annotated[
        str | None,
        _option(
            help="Series Instance UID, of a DICOM folder that holds several series; "
            "of channels by name, t1=1.2.3,flair=1.2.4.",
        ),
    ] = None,
    irregular: Annotated[
        str | None,
        _option(
            help="resample: DICOM slices at unequal distances, which are refused else.",
        ),
    ] = None,
    orthogonal: Annotated[
        bool,
        _option(
            "--orthogonal",
            help="Resample tilted DICOM slices at right angles.",
        ),
    ] = False,
    suv: Annotated[
        bool,
        _option(
            "--suv",
            help="Turn PET into standardised uptake values first.",
        ),
    ] = False,
    suv_channels: Annotated[
        list[str] | None,
        _option(
            "--suv-channel",
            metavar="NAME",
            help="The same for this channel alone, such as that of PET beside CT.",
        ),
    ] = None,
    onto_first: Annotated[
        bool,
        _option(
            "--onto-first",
            help="Resample channels on other grids onto that of the first; nothing is registered.",
        ),
    ] = False,
) -> ReadingOptions:
    """Return how images are read, as `read_image` takes it."""
    return {
        "orientation": orientation,
        "series": None if series is None else _series(series),
        "irregular": irregular,
        "orthogonal": orthogonal,
        "suv": dict.fromkeys(suv_channels, True) if suv_channels else suv,
        "onto_first": onto_first,
    }


def _series(text: str) -> str | dict[str, str]:
    """Return one UID, or those of several channels; a UID has digits and dots only."""
    if "=" not in text:
        return text
    found = {}
    for part in text.split(","):
        name, equals, uid = part.partition("=")
        if not (name.strip() and equals and uid.strip()):
            raise InputError(
                f"--series {text!r} cannot be read: expected a UID, or NAME=UID for each channel "
                "with commas between them."
            )
        found[name.strip()] = uid.strip()
    return found
