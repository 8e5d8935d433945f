"""Tables of label statistics: a row for each label of each case."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.metrics import LabelStatistics

_FIRST = ("case", "label", "name", "voxels", "volume_mm3", "volume_ml", "area_mm2")


def statistics_row(case: str, statistics: LabelStatistics) -> dict[str, Any]:
    """Return statistics of a label as one row: points are spread over one column an axis.

    Intensities are columns such as ``mean`` and ``percentile_50``; of several channels such as
    ``mean_0`` and ``mean_1``.
    """
    return {"case": case, **dict(_cells(statistics))}


def write_statistics(cases: Mapping[str, Iterable[LabelStatistics]], path: str | Path) -> None:
    """Write the statistics of cases, as CSV or, where the name ends in `.json`, as JSON.

    What does not exist is an empty cell, or null. The file appears whole or not at all.

    Args:
        cases: Statistics by the name of the case.
        path: The file to write.

    Raises:
        OutputError: The file cannot be written.
    """
    rows = [statistics_row(case, row) for case, labels in cases.items() for row in labels]
    # A row of an empty label has no coordinates, so the columns are those of all rows together.
    columns = list(dict.fromkeys([*_FIRST, *(column for row in rows for column in row)]))
    rows = [{column: row.get(column) for column in columns} for row in rows]
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        if Path(path).suffix.lower() == ".json":
            json.dump(rows, stream, indent=1, allow_nan=False)
            return
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def _cells(statistics: LabelStatistics) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(statistics):
        value = getattr(statistics, field.name)
        if field.name == "intensities":
            for channel, one in enumerate(value):
                suffix = "" if len(value) == 1 else f"_{channel}"
                yield from ((f"{name}{suffix}", entry) for name, entry in _intensities(one))
        elif isinstance(value, tuple):
            base = field.name.removesuffix("_mm")
            unit = field.name.removeprefix(base)
            yield from (
                (f"{base}_{axis}{unit}", entry) for axis, entry in zip("xyz", value, strict=False)
            )
        elif value is not None:
            yield field.name, value


def _intensities(one: Any) -> Iterator[tuple[str, float]]:
    if one is None:
        return
    for name in ("mean", "standard_deviation", "minimum", "maximum"):
        yield name, getattr(one, name)
    for percent, value in one.percentiles.items():
        yield f"percentile_{percent}", value
