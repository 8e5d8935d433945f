"""From a folder of images and labels to cases with patients and folds."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.data.datalist import Case, paired_cases
from volseg.data.fingerprint import hash_files
from volseg.data.folds import grouped_folds
from volseg.data.strata import label_sizes, label_strata
from volseg.errors import InputError

#: What `list_cases` stratifies by, but for columns of a table.
LABELS = "labels"


def list_cases(
    data: str | Path,
    *,
    images: str = "images",
    labels: str = "labels",
    patients: str | Path | None = None,
    folds: int = 5,
    seed: int = 0,
    blocks: bool = False,
    only: Collection[str] | None = None,
    channels: Sequence[str] | None = None,
    stratify: str | None = None,
    sizes: Mapping[str, Mapping[int, float]] | None = None,
) -> tuple[list[Case], dict[str, Any]]:
    """Return the cases of a data folder dealt into folds, and a description of how.

    Args:
        data: Folder of the data set; paths in the cases are relative to it.
        images: Folder of the images in it.
        labels: Folder of the labels in it, with the same file names.
        patients: CSV file with the columns ``case`` and ``patient``; no patient is split between
            folds. Without it every case counts as a patient of its own.
        folds: Number of folds.
        seed: Of the dealing.
        blocks: Deal neighbours in the order of their names to one fold instead: for slices of one
            volume, where neighbours look alike. Not with `stratify`, nor where it would split a
            patient.
        only: Names of the cases to take; all by default.
        channels: Names of the channels of an image, in order, which may be files of their own; see
            `list_images`.
        stratify: What every fold gets its part of: ``labels``, for what labels a case has and how
            much of each, or a column of the CSV file.
        sizes: Of the labels of each case by value, where they are known; else they are read.

    Raises:
        InputError: Images and labels do not pair, a case in ``only`` does not exist, there are
            fewer patients than folds, the CSV file lacks a case or a column or gives a case two
            values, or ``blocks`` goes with neither ``stratify`` nor the patients.
    """
    data = Path(data)
    pairs = paired_cases(data / images, data / labels, channels)
    unknown = sorted(set(only or ()) - pairs.keys())
    if unknown:
        raise InputError(f"{data / images} has no case {unknown[0]}, which was asked for.")
    names = sorted(pairs if only is None else set(only), key=_by_number)
    patient_of: Mapping[str, str] = {case: case for case in names}
    grouping = "the data carry no patient identifiers: every case counts as its own patient"
    if patients is not None:
        patient_of = _column(Path(patients), names, "patient")
        grouping = Path(patients).name
    if blocks:
        if stratify is not None:
            raise InputError(
                f"blocks of neighbours cannot be stratified by {stratify}: leave one of the two "
                "options out."
            )
        if not 2 <= folds <= len(names):
            raise InputError(f"{len(names)} cases cannot make {folds} blocks: use fewer folds.")
        fold_of = {case: index * folds // len(names) for index, case in enumerate(names)}
        first_fold: dict[str, int] = {}
        for case in names:
            if first_fold.setdefault(patient_of[case], fold_of[case]) != fold_of[case]:
                raise InputError(
                    f"{folds} blocks of neighbours would split the patient {patient_of[case]} "
                    "between folds: leave the option out, then the cases of a patient share a "
                    "fold."
                )
        dealing = f"{folds} blocks of neighbours in the order of the names"
    else:
        strata: Mapping[str, Collection[str]] | None = None
        by = ""
        if stratify == LABELS:
            known = sizes or {case: label_sizes(pairs[case][1]) for case in names}
            strata, by = label_strata({case: known[case] for case in names}), ", by labels"
        elif stratify is not None:
            if patients is None:
                raise InputError(
                    f"to stratify by the column {stratify} the list of patients is needed, a CSV "
                    "file that has it."
                )
            column = _column(Path(patients), names, stratify)
            strata, by = {case: [value] for case, value in column.items()}, f", by {stratify}"
        fold_of = grouped_folds(patient_of, count=folds, seed=seed, strata=strata)
        dealing = f"volseg.data.grouped_folds(count={folds}, seed={seed}){by}"
    cases = [
        Case(
            case=case,
            image=_relative(pairs[case][0], data),
            label=Path(pairs[case][1]).relative_to(data).as_posix(),
            patient=patient_of[case],
            fold=fold_of[case],
        )
        for case in names
    ]
    digest = hash_files(data / path for case in cases for path in case.files)
    return cases, {"patients": grouping, "folds": dealing, "sha256": digest}


def _relative(image: str | Mapping[str, str], data: Path) -> str | dict[str, str]:
    if isinstance(image, str):
        return Path(image).relative_to(data).as_posix()
    return {channel: Path(path).relative_to(data).as_posix() for channel, path in image.items()}


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort 2 before 10."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]


def _column(table: Path, cases: list[str], column: str) -> dict[str, str]:
    """Return what a table has in a column, by case."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [((row["case"] or "").strip(), (row[column] or "").strip()) for row in reader]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table} cannot be read as a list of patients ({type(error).__name__}: {error}): "
            f"expected a CSV file with the columns case and {column}."
        ) from error
    value_of: dict[str, str] = {}
    for case, value in rows:
        if value_of.setdefault(case, value) != value:
            raise InputError(
                f"{table} has two rows of the case {case}, with the {column} {value_of[case]!r} "
                f"and {value!r}: leave one."
            )
    missing = [case for case in cases if not value_of.get(case)]
    if missing:
        raise InputError(
            f"{table} lacks the {column} of {len(missing)} cases (first: {missing[0]}): add them."
        )
    return {case: value_of[case] for case in cases}
