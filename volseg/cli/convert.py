"""``volseg convert``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.console import errors, output, print_json
from volseg.cli.option_groups import given
from volseg.cli.reading_options import reading
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.io import ReadingOptions


@given(reading=reading)
def convert(
    path: Annotated[
        Path,
        typer.Argument(metavar="IN", help="An image, a DICOM folder, a DICOM SEG or an RTSTRUCT."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help=".nii.gz, .nii, .nrrd, .mha, .png, .tif; .dcm: labels."),
    ],
    reading: ReadingOptions,
    kind: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="What OUT.dcm shall be: dicom-seg, dicom-labelmap, dicom-probabilities, rtstruct.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="DICOM folder that the labels belong to (its --series); for .dcm, RTSTRUCT."
        ),
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(help="Names and codes of the labels, as dcmqi's JSON (segmentAttributes)."),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="Bundle that made the labels: its names and codes."),
    ] = None,
    overlap: Annotated[
        str,
        typer.Option(help="Voxels in several segments: refuse, last (higher number) or channels."),
    ] = "refuse",
    compression: Annotated[
        str | None,
        typer.Option(help="rle, jpeg-ls or jpeg2000, of dicom-labelmap and dicom-probabilities."),
    ] = None,
    stable_uids: Annotated[
        bool, typer.Option("--stable-uids", help="The same input gives the same DICOM file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Convert images and label maps between DICOM, NIfTI, NRRD, MetaImage and pictures.

    Nothing is resampled. A label map becomes DICOM SEG or RTSTRUCT on the series it belongs to
    (--source), also if another program has turned its axes round; SEG and RTSTRUCT become label
    maps.
    """
    from volseg.bundle import open_bundle
    from volseg.io import convert_file, reading_of_file
    from volseg.io.dicom import DicomOptions
    from volseg.io.dicom.segmentations import read_segments

    if segments is not None and bundle is not None:
        raise InputError("--segments and --bundle both name the labels: give one of them.")
    opened = None if bundle is None else open_bundle(bundle)
    described = read_segments(segments) if segments is not None else None
    of_file = reading_of_file(reading, path)
    options = DicomOptions.of(of_file)
    if source is not None:
        options = replace(options, series=None)
    done = convert_file(
        path,
        target,
        kind=kind,
        source=source,
        source_series=None if source is None else of_file["series"],
        segments=described if opened is None else opened.segments,
        algorithm=None if opened is None else opened.algorithm,
        overlap=overlap,
        compression=compression,
        stable=stable_uids,
        orientation=of_file["orientation"],
        options=options,
    )
    if as_json:
        print_json(asdict(done))
        return
    for remark in done.remarks:
        errors.print(remark, soft_wrap=True, markup=False, highlight=False)
    output.print(str(done.target), soft_wrap=True, markup=False, highlight=False)
