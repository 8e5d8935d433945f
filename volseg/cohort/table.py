"""The table of a cohort: a row a case, in the order of the manifest, as CSV and as Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.cohort.case import CohortCase
from volseg.cohort.folder import CohortFolder
from volseg.cohort.outcome import Outcome, read_outcome

# Files of a network are read by many at once: it is the waiting that takes long.
_READING = 16
_SIZES = ("voxels", "volume_ml", "area_mm2", "surface_mm2")
_INTENSITIES = ("mean", "standard_deviation", "minimum", "maximum")
_MEDIAN = "50"


def cohort_rows(cohort: CohortFolder) -> list[dict[str, Any]]:
    """Return a row for each case: what became of it, its columns of the manifest, its numbers.

    A column of the manifest that is called like one of ours is given as ``manifest_<name>``.
    """
    with ThreadPoolExecutor(_READING) as threads:
        found = threads.map(lambda case: _row(cohort, case), cohort.read_cases().values())
        pairs = list(found)
    ours = {name for _, row in pairs for name in row}
    return [
        {
            "case": row["case"],
            "state": row["state"],
            **{f"manifest_{name}" if name in ours else name: cell for name, cell in given.items()},
            **row,
        }
        for given, row in pairs
    ]


def write_table(cohort: CohortFolder) -> list[Path]:
    """Write `cohort_rows` as ``table.csv`` and, where pyarrow is installed, ``table.parquet``.

    Returns:
        The files, each whole or as it was before.

    Raises:
        OutputError: A file cannot be written.
    """
    rows = cohort_rows(cohort)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = cohort.path / "table.csv"
    with (
        replacing(table) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
    try:
        import pyarrow  # noqa: PLC0415 - an optional package
        from pyarrow import parquet  # noqa: PLC0415 - likewise
    except ImportError:
        return [table]
    arrays = {name: _array(pyarrow, [row.get(name) for row in rows]) for name in columns}
    with replacing(table.with_suffix(".parquet")) as temporary:
        parquet.write_table(pyarrow.table(arrays), temporary)
    return [table, table.with_suffix(".parquet")]


def _array(pyarrow: Any, values: Sequence[Any]) -> Any:
    """Return a column; what is of several types as text."""
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([None if value is None else str(value) for value in values])


def _row(cohort: CohortFolder, case: CohortCase) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return the columns of the manifest and ours."""
    outcome = read_outcome(cohort, case.case)
    row: dict[str, Any] = {"case": case.case, "state": "open"}
    if outcome is None or outcome.to_redo:
        return case.columns, row
    if outcome.state == "failed":
        row |= {"state": "failed", "error": outcome.error} | _circumstances(outcome)
    else:
        folder = cohort.results(case.case)
        try:
            record = json.loads((folder / outcome.record).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the next run does it again
            return case.columns, row
        files = {
            f"file_{name}": (folder / file).relative_to(cohort.path).as_posix()
            for name, file in outcome.files.items()
        }
        row |= {"state": "done"} | _recorded(record) | _circumstances(outcome) | files
    return case.columns, row


def _recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record of a case says."""
    flags = [f"{flag['code']}: {flag['sentence']}" for flag in record["quality"]["flags"]]
    bundles = record["bundles"]
    return {
        **dict(_numbers(record)),
        "quality": record["quality"]["severity"],
        "quality_flags": "; ".join(flags) or None,
        "peak_memory_bytes": record["peak_memory_bytes"],
        "bundle": " ".join(f"{one['name']}@{one['version']}" for one in bundles),
        "bundle_sha256": " ".join(one["sha256"] for one in bundles),
        "volseg": record["volseg"],
    }


def _circumstances(outcome: Outcome) -> dict[str, Any]:
    return {
        "seconds": outcome.seconds,
        "workers_died": outcome.deaths,
        "worker": outcome.worker,
        "finished": outcome.finished,
        "settings_sha256": outcome.settings,
        "images_sha256": outcome.digest or None,
    }


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield sizes and intensities of each label; those of further channels are numbered."""
    for label in record["statistics"]:
        for size in _SIZES:
            if label[size] is not None:
                yield f"{label['name']}_{size}", label[size]
        for channel, found in enumerate(label["intensities"]):
            suffix = f"_{channel}" if len(label["intensities"]) > 1 else ""
            if found is not None:
                for name in _INTENSITIES:
                    yield f"{label['name']}_{name}{suffix}", found[name]
                yield f"{label['name']}_median{suffix}", found["percentiles"][_MEDIAN]
