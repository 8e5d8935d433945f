"""Options of commands that read images: see `given`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from volseg.cli.option_groups import options_under

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
            help="Series Instance UID, of a DICOM folder that holds several series.",
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
) -> ReadingOptions:
    """Return how images are read, as `read_image` takes it."""
    return {
        "orientation": orientation,
        "series": series,
        "irregular": irregular,
        "orthogonal": orthogonal,
        "suv": suv,
    }
