"""Pages of cases, and one of all of them, from the records that segmenting them left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import volseg
from volseg.errors import InputError, UnknownNameError, VolsegError
from volseg.evaluation import read_table
from volseg.io import (
    ReadingOptions,
    StoredVolume,
    as_image,
    first_file,
    open_volume,
    read_image,
)
from volseg.io.dicom.segmentations import read_segmentation
from volseg.report.case_page import write_case_page
from volseg.report.cohort_page import CohortCase, write_cohort_page
from volseg.segmenter import RECORD_SUFFIX, CaseRecord, read_record

COHORT_PAGE = "index.html"


@dataclass(frozen=True)
class Outcome:
    """What became of the page of a case.

    Attributes:
        case: Name of the case, as its files have it.
        page: The page; None if there is none.
        error: Why not.
    """

    case: str
    page: Path | None
    error: str | None = None


def find_records(inputs: Sequence[str | Path]) -> dict[str, Path]:
    """Return the records that are meant, by the name of the case as its files have it.

    Args:
        inputs: Records, label maps or other results beside their records, or folders of these, at
            any depth.

    Raises:
        InputError: There is none, or two cases have one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, inputs):
        for record in _records_of(path):
            case = record.name.removesuffix(RECORD_SUFFIX)
            if case in found and found[case].resolve() != record.resolve():
                raise InputError(
                    f"{found[case]} and {record} would both become {case}.html: make their reports "
                    "in different folders."
                )
            found[case] = record
    return found


def write_report(
    records: Mapping[str, Path],
    folder: str | Path,
    *,
    images: Path | None = None,
    viewer: Path | None = None,
    further: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Write a page for each case, and `index.html` of all of them, and return what became of each.

    A case whose page cannot be made is in the table of all cases all the same, if its record can be
    read.

    Args:
        records: As `find_records` gives them.
        folder: Where the pages go.
        images: Folder of the images, at the depth at which they were, or the image of the only
            case, where they are no longer where they were segmented.
        viewer: Script of NiiVue.
        further: Further columns of the table, by case and heading.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: No record can be read.
        OutputError: The table cannot be written.
    """
    folder = Path(folder)
    found: dict[str, CaseRecord] = {}
    errors: dict[str, str] = {}
    for name, path in records.items():
        try:
            found[name] = read_record(path)
        except VolsegError as trouble:
            errors[name] = str(trouble)
    if errors and not found:
        reason = next(iter(errors.values())).rstrip(".")
        raise InputError(f"none of {len(errors)} records can be read ({reason}).")
    places = {name: _place_of(record, images) for name, record in found.items()}
    meant: dict[Path, set[Path]] = {}
    for name, record in found.items():
        meant.setdefault(places[name], set()).add(Path(record.image))
    cases: list[CohortCase] = []
    for done, name in enumerate(records, start=1):
        if name in found:
            address: str | None = None
            try:
                _require_page_of_its_own(name)
                _require_one_image(places[name], meant[places[name]])
                _write_page(found[name], places[name], folder / f"{name}.html", viewer)
                address = quote(f"{name}.html")
            except VolsegError as trouble:
                errors[name] = str(trouble)
            columns = (further or {}).get(found[name].case, {})
            cases.append(CohortCase(found[name], address, columns))
        if progress is not None:
            progress(done, len(records))
    if cases:
        write_cohort_page(cases, folder / COHORT_PAGE, volseg=volseg.__version__)
    return [
        Outcome(name, None if name in errors else folder / f"{name}.html", errors.get(name))
        for name in records
    ]


def read_further_columns(
    path: Path, columns: Sequence[str] | None = None
) -> dict[str, dict[str, str]]:
    """Return columns of a CSV table with a column ``case``, by case and heading.

    Args:
        path: The table.
        columns: Those that are wanted; all of them without it.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    rows = read_table(path, ["case"])
    found = [name for name in rows[0] if name != "case"]
    for name in columns or ():
        if name not in found:
            raise UnknownNameError(f"column of the table {path}", name, found)
    return {row["case"]: {name: row[name] for name in columns or found} for row in rows}


def _records_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.rglob(f"*{RECORD_SUFFIX}"))  # cohorts deal them into folders
        if not found:
            raise InputError(
                f"the folder {path} holds no *{RECORD_SUFFIX}: give one that `volseg segment` "
                "wrote."
            )
        return found
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}.")
    if path.name.endswith(RECORD_SUFFIX):
        return [path]
    # `case_seg.nii.gz` and `case_entropy.nii.gz` belong to `case_record.json`.
    case, _, _ = path.name.rpartition("_")
    record = path.with_name(f"{case}{RECORD_SUFFIX}")
    if not record.is_file():
        raise InputError(
            f"there is no {record.name} beside {path}: give a result of `volseg segment`, which "
            "writes one."
        )
    return [record]


def _require_page_of_its_own(name: str) -> None:
    if f"{name}.html".casefold() == COHORT_PAGE:
        raise InputError(
            f"the page of the case {name} would be {COHORT_PAGE}, which is that of all cases: give "
            "its files another name."
        )


def _require_one_image(place: Path, meant: Set[Path]) -> None:
    """Refuse a file that is taken for several images: on one grid nothing else would tell."""
    if len(meant) > 1:
        first, second = sorted(meant)[:2]
        raise InputError(
            f"{place} cannot be both {first} and {second}: give the folder that both were in, "
            "wherever it is now, with --images."
        )


def _write_page(record: CaseRecord, path: Path, page: Path, viewer: Path | None) -> None:
    if not path.exists():
        raise InputError(
            f"the image of {record.case} is not at {path}: give the folder of the images with "
            "--images."
        )
    said: Any = {
        name: record.settings[name]
        for name in ReadingOptions.__annotations__
        if name in record.settings
    }
    # The channel that is shown is the first one.
    channel = next(iter(record.channels), None)
    _, reading = first_file(path if channel is None else {channel: path}, said)
    with ExitStack() as files:
        image = files.enter_context(open_volume(path, **reading))
        labels = files.enter_context(_labels_of(record, image))
        write_case_page(record, image, labels, page, viewer=viewer, cohort=COHORT_PAGE)


def _place_of(record: CaseRecord, images: Path | None) -> Path:
    """Return where the image of a case is to be: in a folder below as many of its own as are there.

    Cases may differ by their folders alone, such as `sub-01/ct.nii.gz` and `sub-02/ct.nii.gz`.
    """
    path = Path(record.image)
    if images is None:
        return path
    if not images.is_dir():
        return images
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    places = [images.joinpath(*parts[start:]) for start in range(len(parts))]
    return next((place for place in places if place.exists()), images / path.name)


def _labels_of(record: CaseRecord, image: StoredVolume) -> StoredVolume:
    """Return the label map of a case, on the grid of its image."""
    stored = record.files.get("nifti")
    if stored is not None:
        if len(image.grid.shape) == 3:
            return open_volume(stored)
        # A picture does not say where its pixels lie.
        return open_volume(as_image(read_image(stored).numpy(), image.grid.affine))
    for name in ("dicom-labelmap", "dicom-seg"):
        if name in record.files:
            found = read_segmentation(record.files[name], source=image.grid).image
            return open_volume(as_image(found.values, found.require_affine()))
    raise InputError(
        f"{record.case} has no label map that can be shown: segment it again with nifti among the "
        "formats."
    )
