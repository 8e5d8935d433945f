"""Writing an evaluation: the table as CSV, the summary as JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.errors import OutputError
from volseg.evaluation.case import ClassScore
from volseg.evaluation.files import Evaluation


def write_evaluation(evaluation: Evaluation, path: str | Path) -> tuple[Path, Path]:
    """Write the table and the summary side by side; return both paths, the table first.

    The table (`.csv`) has a row for each case and class; a metric that does not apply is an empty
    cell, an infinite distance is `inf`. The summary (`.json`) has the statistics of each class, the
    means over classes, the failed cases and the undeclared values; what is not a finite number is
    `null` there, and the counts `n`, `n_empty` and `n_infinite` say why.

    Args:
        evaluation: Result of `evaluate_files`.
        path: `x.csv` or `x.json`; the other file gets the same name with the other suffix.

    Raises:
        OutputError: The suffix is another one, or the files cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in {".csv", ".json"}:
        raise OutputError(
            f"{path} cannot hold an evaluation; expected a name that ends in .csv (table) or .json "
            "(summary): both are written."
        )
    table = path if path.suffix.lower() == ".csv" else path.with_suffix(".csv")
    summary = path if path.suffix.lower() == ".json" else path.with_suffix(".json")
    with (
        replacing(table) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(field.name for field in dataclasses.fields(ClassScore))
        writer.writerows(map(_cell, dataclasses.astuple(row)) for row in evaluation.rows)
    with replacing(summary) as temporary:
        text = json.dumps(_summary(evaluation), indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return table, summary


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    classes = evaluation.summary()
    return {
        "cases": len({row.case for row in evaluation.rows}),
        "labels": evaluation.labels,
        "surface_tolerance_mm": evaluation.surface_tolerance_mm,
        "mean_over_classes": {
            metric: _number(mean) for metric, mean in evaluation.mean_over_classes().items()
        },
        "classes": {
            name: {
                metric: {key: _number(value) for key, value in dataclasses.asdict(row).items()}
                for metric, row in metrics.items()
            }
            for name, metrics in classes.items()
        },
        "failures": evaluation.failures,
        "undeclared_labels": evaluation.undeclared,
    }


def _number(value: float) -> float | None:
    """Return the value if JSON can hold it: the standard knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
