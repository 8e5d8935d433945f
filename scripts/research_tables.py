"""What the scripts for clinical research read and write: tables, and the volumes of cases."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.errors import InputError, MissingPackageError
from volseg.evaluation import case_name
from volseg.io import grid_of, read_image
from volseg.metrics import label_statistics
from volseg.segmenter import read_record

_RECORD = "_record.json"


@dataclass(frozen=True)
class StructureVolume:
    """Volume of one structure of one case, in mL."""

    case: str
    structure: str
    ml: float


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has these columns.

    Raises:
        InputError: It cannot be read, has no row, or lacks a column or a value in one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table ({error}).") from error
    for number, row in enumerate(rows, start=2):
        for column in columns:
            if not (row.get(column) or "").strip():
                raise InputError(
                    f"{path} has no {column!r} in line {number}; expected the columns "
                    f"{', '.join(columns)} with a value in each row."
                )
    if not rows:
        raise InputError(f"{path} has no row; expected the columns {', '.join(columns)}.")
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in rows]


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV, whole or not at all; what is unknown is empty."""
    listed = [{name: _cell(value) for name, value in row.items()} for row in rows]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, listed[0] if listed else ["case"])
        writer.writeheader()
        writer.writerows(listed)


def structure_volumes(folder: Path, labels: Mapping[str, int] | None) -> list[StructureVolume]:
    """Return the volumes of all structures of all cases in a folder.

    Args:
        folder: What `volseg segment` wrote, with the record of each case; or else label maps.
        labels: Structures to take, by name; of records all by default. Label maps need them.

    Raises:
        InputError: There is neither, or a file cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.")
    records = sorted(folder.glob(f"*{_RECORD}"))
    found: list[StructureVolume] = []
    for path in records:
        record = read_record(path)
        for row in record.statistics.labels:
            if row.volume_ml is not None and (labels is None or row.name in labels):
                found.append(StructureVolume(record.case, row.name, row.volume_ml))
    if records:
        return found
    if labels is None:
        raise InputError(
            f"{folder} holds no record of a case (*{_RECORD}): name what the labels of its maps "
            "are, --labels liver=1,spleen=2."
        )
    names = {value: name for name, value in labels.items()}
    for path in label_maps(folder):
        image = read_image(path)
        grid = grid_of(image)
        for row in label_statistics(image.numpy()[0], grid.affine, names=names):
            if row.label in names and row.volume_ml is not None:
                found.append(StructureVolume(case_name(path), row.name, row.volume_ml))
    return found


def label_maps(folder: Path) -> list[Path]:
    """Return the label maps in a folder, sorted.

    Raises:
        InputError: There is none.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.name.endswith((".nii.gz", ".nii"))]
    if not paths:
        raise InputError(f"{folder} holds no label map: expected files such as case_seg.nii.gz.")
    return paths


def named_labels(text: str) -> dict[str, int]:
    """Return labels by name from a text such as ``liver=1,spleen=2``.

    Raises:
        InputError: It cannot be read.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): int(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(
            f"--labels {text!r} cannot be read: expected names with values, liver=1,spleen=2."
        ) from error


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


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""
