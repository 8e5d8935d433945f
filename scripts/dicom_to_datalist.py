"""Convert a DICOM tree to NIfTI, with a list of what was converted and of what was not, and why.

    python scripts/dicom_to_datalist.py archive/ dataset/

DATASET gets ``images/<case>.nii.gz`` (axes and values as stored), ``dataset.json`` as the Medical
Decathlon has it, and ``manifest.csv`` for `volseg cohort run`. Beside it, for it is not to be given
away, lies DATASET.refused.csv, or where --refused says: series that are no volume and files that
are no image, each with a reason, by the UIDs and paths of the archive. Patients get pseudonyms by
the secret in --key, which is made for the first run; one that an earlier version made,
``pseudonyms.key``, is used where it is. Keep it, and give it to nobody. What pixels and
descriptions of series may tell is left in DATASET, and its manifest has the dates of the studies.
Images that are there with all their slices are not written again, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from research_tables import write_table
from volseg.atomic import require_writable, write_text
from volseg.errors import InputError, VolsegError
from volseg.io import open_volume, read_image, write_image
from volseg.io.dicom import Series, SeriesDescription, describe_series, survey
from volseg.io.dicom.arrangement import arrange
from volseg.pacs import Pseudonyms, read_key


@dataclasses.dataclass(frozen=True)
class Converted:
    """A row of the manifest: a series that is an image now."""

    case: str
    image: str
    patient: str
    date: str
    modality: str
    description: str
    slices: int
    spacing: str
    series_uid: str


@dataclasses.dataclass(frozen=True)
class Refused:
    """A series, or a file, that is no image in the data set."""

    what: str
    modality: str
    description: str
    reason: str


def main() -> None:
    """Read the arguments, convert, and write the lists."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dicom", type=Path, help="folder with DICOM files at any depth")
    parser.add_argument("dataset", type=Path, help="folder for the data set")
    parser.add_argument("--modality", help="only these, such as CT,MR; all by default")
    parser.add_argument(
        "--key", type=Path, help="secret of the pseudonyms (default: DATASET.key, beside DATASET)"
    )
    parser.add_argument(
        "--refused",
        type=Path,
        help="list of what is no image (default: DATASET.refused.csv, beside DATASET)",
    )
    parser.add_argument("--least-slices", type=int, default=1, help="of a volume (default: 1)")
    parser.add_argument(
        "--irregular", choices=["resample"], help="resample slices at unequal distances"
    )
    arguments = parser.parse_args()
    modalities = arguments.modality.split(",") if arguments.modality else None
    table = arguments.refused or beside(arguments.dataset, ".refused.csv")
    try:
        require_writable(table)  # before the hours that the rest may take
        converted, refused = convert_tree(
            arguments.dicom,
            arguments.dataset,
            key=arguments.key or usual_key(arguments.dataset),
            modalities=modalities,
            least_slices=arguments.least_slices,
            irregular=arguments.irregular,
        )
        write_lists(arguments.dataset, converted)
        write_table(table, map(dataclasses.asdict, refused))
    except VolsegError as error:
        sys.exit(str(error))
    sys.stdout.write(
        f"{len(converted)} images in {arguments.dataset}, {len(refused)} series and files refused "
        f"({table})\n"
    )


def beside(dataset: Path, ending: str) -> Path:
    """Return a file that goes with a data set and does not lie in it."""
    place = dataset.resolve()  # so that it has a name
    return place.with_name(f"{place.name}{ending}")


def usual_key(dataset: Path) -> Path:
    """Return where the secret of a data set is, if it is not said."""
    # Earlier versions made it there: another one would give every case another name.
    within = dataset / "pseudonyms.key"
    return within if within.is_file() else beside(dataset, ".key")


def convert_tree(
    folder: Path,
    dataset: Path,
    *,
    key: Path,
    modalities: list[str] | None,
    least_slices: int,
    irregular: str | None,
) -> tuple[list[Converted], list[Refused]]:
    """Convert every series that is a volume; return these, and what was refused.

    Raises:
        InputError: There is no such folder, no DICOM series in it, or no key of what is there.
        OutputError: An image cannot be written; those before are there.
    """
    found = survey(folder)
    if not found.series:
        raise InputError(f"{folder} holds no DICOM series.")
    if not key.exists() and any((dataset / "images").glob("*.nii.gz")):
        raise InputError(
            f"{dataset} holds images already, and the key of their names is not at {key}: say "
            "where it is with --key, or convert into another folder."
        )
    pseudonyms = Pseudonyms(read_key(key))
    converted: list[Converted] = []
    refused = [Refused(str(file.path), "", "", file.reason) for file in found.unused]
    with Progress(console=Console(stderr=True)) as bar:
        for series in bar.track(found.series, description="series"):
            described = describe_series(series, found)
            reason = why_not(series, described, modalities, least_slices, irregular)
            try:
                if not reason:
                    converted.append(convert(series, described, dataset, pseudonyms, irregular))
            except InputError as error:  # pixels that cannot be decoded show only now
                reason = str(error)
            if reason:
                refused.append(
                    Refused(series.uid, described.modality, described.description, reason)
                )
    return converted, refused


def why_not(
    series: Series,
    described: SeriesDescription,
    modalities: list[str] | None,
    least_slices: int,
    irregular: str | None,
) -> str:
    """Return why a series is not converted; empty if it is."""
    if series.kind:
        return f"it is {series.kind} and no image"
    if modalities is not None and described.modality not in modalities:
        return f"modality {described.modality or 'unknown'} was not asked for"
    if described.verdict == "refused" or (described.choice and irregular is None):
        return described.reason
    if described.slices < least_slices:
        return f"{described.slices} slices, fewer than {least_slices}"
    return ""


def convert(
    series: Series,
    described: SeriesDescription,
    dataset: Path,
    pseudonyms: Pseudonyms,
    irregular: str | None,
) -> Converted:
    """Write a series as NIfTI, unless all of it is there, and return its row."""
    import pydicom  # noqa: PLC0415 - an optional package, which `survey` has asked for

    header = pydicom.dcmread(series.frames[0].path, stop_before_pixels=True, force=True)
    # As `volseg.pacs.Anonymizer` tells patients without a number apart.
    patient = pseudonyms.patient(
        str(header.get("PatientID") or header.get("PatientName") or header.get("StudyInstanceUID"))
    )
    # The same for the same series in every run, whatever else is in the tree by then.
    case = f"{patient}_{hashlib.sha256(pseudonyms.uid(series.uid).encode()).hexdigest()[:8]}"
    target = dataset / "images" / f"{case}.nii.gz"
    if not target.is_file() or not is_whole(target, series, described, irregular):
        # Its own folder, so that not the whole tree is searched again.
        folder = os.path.commonpath([frame.path.parent for frame in series.frames])
        write_image(read_image(folder, series=series.uid, irregular=irregular), target)
    day = str(header.get("StudyDate") or "")
    return Converted(
        case=case,
        image=target.relative_to(dataset).as_posix(),
        patient=patient,
        date=f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 else "",
        modality=described.modality,
        description=described.description,
        slices=described.slices,
        spacing=" x ".join(f"{step:g}" for step in described.spacing or ()),
        series_uid=pseudonyms.uid(series.uid),
    )


def is_whole(
    image: Path, series: Series, described: SeriesDescription, irregular: str | None
) -> bool:
    """Return whether an image has all of its series, which may have been arriving before."""
    stack = arrange(series, str(image), irregular=irregular is not None).stack
    expected = (described.channels * described.time_points, *described.matrix, stack.size)
    found = open_volume(image)
    return (found.channels, *found.grid.shape) == expected


def write_lists(dataset: Path, converted: list[Converted]) -> None:
    """Write the data list and the manifest.

    Raises:
        OutputError: A list cannot be written.
    """
    write_table(dataset / "manifest.csv", map(dataclasses.asdict, converted))
    modalities = {row.modality for row in converted}
    content: dict[str, Any] = {
        "name": dataset.resolve().name,
        "tensorImageSize": "3D",
        # Its keys are channels of one image, not kinds of images.
        "modality": {"0": modalities.pop() if len(modalities) == 1 else "several"},
        "numTraining": 0,
        "numTest": len(converted),
        "training": [],
        "test": [f"./{row.image}" for row in converted],
    }
    write_text(dataset / "dataset.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
