"""What the scripts for clinical research read and write: tables, and the volumes of cases."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.data import list_images
from volseg.data.channel_files import by_name
from volseg.errors import InputError, MissingPackageError
from volseg.evaluation import case_name, read_table
from volseg.io import grid_of, on_source_grid, read_image
from volseg.metrics import LabelStatistics, label_statistics
from volseg.segmenter import RECORD_SUFFIX, CaseRecord, read_record


@dataclass(frozen=True)
class StructureVolume:
    """Volume of one structure of one case, in mL."""

    case: str
    structure: str
    ml: float


def argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the docstring of a script as it is written, with --output."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    return parser


def volumes_parser(doc: str | None, table: str, columns: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a script that takes the volumes of cases and a table about them.

    Args:
        doc: Its docstring.
        table: Name of the argument.
        columns: Of the table, beside ``case``.
    """
    parser = argument_parser(doc)
    parser.add_argument("volumes", type=Path, help="folder of records or label maps")
    names = ", ".join(["case", *columns])
    parser.add_argument(table, type=Path, help=f"CSV with the columns {names}")
    parser.add_argument("--labels", help="structures: liver=1,spleen=2; of records all by default")
    return parser


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV, whole or not at all; what is unknown is empty."""
    listed = [{name: _cell(value) for name, value in row.items()} for row in rows]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, listed[0] if listed else ["case"])
        writer.writeheader()
        writer.writerows(listed)


def structure_volumes(folder: Path, names: str | None) -> list[StructureVolume]:
    """Return the volumes of all structures of all cases in a folder.

    Args:
        folder: What `volseg segment` wrote, with the record of each case; or else label maps.
        names: Structures to take, as `named_labels` reads them; of records all by default. Label
            maps need them.

    Raises:
        InputError: There is neither, a file cannot be used, or a label is not that of a record.
    """
    labels = None if names is None else named_labels(names)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.")
    records = [read_record(path) for path in sorted(folder.glob(f"*{RECORD_SUFFIX}"))]
    if records:
        if labels is not None:
            _require_known(labels, records, folder)
        return [
            StructureVolume(record.case, row.name, _volume(row, record.case))
            for record in records
            for row in record.statistics.labels
            if labels is None or (row.name, row.label) in labels.items()
        ]
    if labels is None:
        raise InputError(
            f"{folder} holds no record of a case (*{RECORD_SUFFIX}): name what the labels of its "
            "maps are, --labels liver=1,spleen=2."
        )
    return map_volumes(folder, labels)


def _require_known(labels: Mapping[str, int], records: Iterable[CaseRecord], folder: Path) -> None:
    known = {(row.name, row.label) for record in records for row in record.statistics.labels}
    unknown = [f"{name}={value}" for name, value in labels.items() if (name, value) not in known]
    if unknown:
        there = ",".join(f"{name}={value}" for name, value in sorted(known, key=lambda one: one[1]))
        raise InputError(
            f"the records in {folder} know no label {unknown[0]}: give --labels some of {there}."
        )


def map_volumes(folder: Path, labels: Mapping[str, int]) -> list[StructureVolume]:
    """Return the volumes of structures in the label maps of a folder.

    Raises:
        InputError: There is no label map, one cannot be used, or two files are of one case.
    """
    names = {value: name for name, value in labels.items()}
    files = by_name((case_name(item["image"]), item["image"]) for item in list_images(folder))
    found: list[StructureVolume] = []
    for case, file in files.items():
        image = read_image(file)
        maps = on_source_grid(image, image).numpy()[0]
        for row in label_statistics(maps, grid_of(image).affine, names=names):
            if row.label in names:
                found.append(StructureVolume(case, row.name, _volume(row, file)))
    return found


def volumes_of_table(
    volumes: Iterable[StructureVolume], table: Path, columns: Sequence[str]
) -> list[tuple[StructureVolume, dict[str, str]]]:
    """Return each volume with the row of its case; cases that are in no row are left out.

    Args:
        volumes: Of all cases.
        table: CSV with the column ``case``.
        columns: What else it must have.

    Raises:
        InputError: The table cannot be used, names a case twice, or one that has no volume.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in read_table(table, ["case", *columns]):
        if row["case"] in rows:
            raise InputError(f"{table} has two rows of the case {row['case']}: leave one.")
        rows[row["case"]] = row
    found = [(one, rows[one.case]) for one in volumes if one.case in rows]
    without = sorted(rows.keys() - {one.case for one, _ in found})
    if without:
        raise InputError(f"{len(without)} cases of {table} have no volume (first: {without[0]}).")
    return found


def named_labels(text: str) -> dict[str, int]:
    """Return labels by name from a text such as ``liver=1,spleen=2``.

    Raises:
        InputError: It cannot be read, or names something twice.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        labels = {name.strip(): int(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(
            f"--labels {text!r} cannot be read: expected names with values, liver=1,spleen=2."
        ) from error
    if len(labels) < len(pairs) or len(set(labels.values())) < len(pairs):
        raise InputError(
            f"--labels {text!r} names a structure or a value twice: expected each once."
        )
    return labels


def plotting() -> Any:
    """Return `matplotlib.figure.Figure`, which draws to files and needs no screen.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingPackageError("the plot", "matplotlib", extra="research") from error
    return Figure


def save_plot(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _volume(row: LabelStatistics, source: str) -> float:
    if row.volume_ml is None:
        raise InputError(f"{source} is a picture, which has no volume: give volumes.")
    return row.volume_ml


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""
