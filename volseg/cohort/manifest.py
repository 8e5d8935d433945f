"""Manifests: tables with a row a case, as CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.cohort.case import CohortCase, Value, require_usable_names
from volseg.errors import InputError, MissingPackageError

MANIFEST_SUFFIXES = (".csv", ".tsv", ".json", ".parquet")


def read_manifest(path: str | Path, *, channels: Sequence[str] = ()) -> list[CohortCase]:
    """Return the cases of a manifest, in its order.

    Columns: ``case``; ``image``, or one for each channel of the bundle; ``series``, or such as
    ``t1_series``, where a DICOM folder holds several. All others, such as ``patient`` and
    ``group``, are carried through. Paths are relative to the folder that
    the manifest lies in, or the link to it.

    Args:
        path: CSV (or TSV) with a line of names, JSON with a list of objects, or Parquet.
        channels: Names of the bundle's channels.

    Raises:
        InputError: It cannot be read, lacks a column or a value, holds no case, or names cannot be
            used.
        MissingPackageError: It is Parquet, and pyarrow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no manifest {path}.")
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path} lists no case: expected a row for each.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    images = _image_columns(columns, channels, path)
    cases = [_case(row, images, path, number) for number, row in enumerate(rows, start=1)]
    require_usable_names(cases, path)
    return cases


def _rows(path: Path) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return _csv_rows(path, delimiter="\t" if suffix == ".tsv" else ",")
        if suffix == ".json":
            return _json_rows(path)
        if suffix == ".parquet":
            return _parquet_rows(path)
    except (OSError, ValueError, csv.Error) as error:  # what is not JSON or UTF-8 is a ValueError
        raise InputError(f"{path} cannot be read as a manifest: {error}.") from error
    raise InputError(
        f"{path} cannot be a manifest: expected a name that ends in {', '.join(MANIFEST_SUFFIXES)}."
    )


def _csv_rows(path: Path, *, delimiter: str) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = []
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"line {reader.line_num} of {path} has not as many cells as the first line "
                    f"has names ({len(reader.fieldnames or ())})."
                )
            rows.append({name.strip(): cell.strip() for name, cell in row.items()})
        return rows


def _json_rows(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f'{path} is not a manifest: expected a list such as [{{"case": "a", "image": '
            '"a.nii.gz"}}].'
        )
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingPackageError("reading Parquet", "pyarrow", "cohort") from error
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def _image_columns(columns: Sequence[str], channels: Sequence[str], path: Path) -> list[str]:
    """Return the columns that hold paths: ``image``, or those of all channels."""
    wanted = [["image"], list(channels)] if channels else [["image"]]
    missing = [name for name in ["case"] if name not in columns]
    found = next((names for names in wanted if set(names) <= set(columns)), None)
    if found is None:
        begun = wanted[-1] if set(wanted[-1]) & set(columns) else wanted[0]
        missing += [name for name in begun if name not in columns]
    if missing:
        also = f" or one for each channel ({', '.join(channels)})" if len(channels) > 1 else ""
        raise InputError(
            f"{path} has {' and '.join(_absent(name, columns) for name in missing)}: expected case "
            f"and image{also}, found {', '.join(columns)}."
        )
    return found or []


def _absent(name: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), columns, n=1, cutoff=0.5)
    near = near or [column for column in columns if column.lower() == name.lower()]
    return f"no column {name!r}" + (f" (is it {near[0]!r}?)" if near else "")


def _case(row: Mapping[str, Any], images: Sequence[str], path: Path, number: int) -> CohortCase:
    where = f"row {number} of {path}"
    for name in ("case", *images):
        if row.get(name) in (None, ""):
            raise InputError(f"{where} has no value in the column {name!r}.")
    single = images == ["image"]
    series_column = {name: "series" if single else f"{name}_series" for name in images}
    paths = {name: str(path.parent.resolve() / str(row[name])) for name in images}
    series = {name: str(row[of]) for name, of in series_column.items() if row.get(of)}
    return CohortCase(
        case=str(row["case"]),
        image=paths["image"] if single else paths,
        series=(series.get("image") if single else series) or None,
        columns={
            str(name): _value(value, f"the column {name!r} in {where}")
            for name, value in row.items()
            if name not in ("case", *images, *series_column.values())
        },
    )


def _value(value: Any, where: str) -> Value:
    """Return what a table can hold; dates of Parquet as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict | list | bytes):
        raise InputError(f"{where} holds a {type(value).__name__}; expected text or a number.")
    return str(value)
