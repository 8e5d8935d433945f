"""Writing an evaluation: the table as CSV, the summary as JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from volseg.atomic import replacing
from volseg.errors import OutputError
from volseg.evaluation.class_score import ClassScore
from volseg.evaluation.comparison import Comparison
from volseg.evaluation.describe import how_computed
from volseg.evaluation.evaluation import Evaluation
from volseg.evaluation.probabilities import CasesCalibration
from volseg.evaluation.summary import Statistics


class EvaluationPaths(NamedTuple):
    """The files of an evaluation."""

    table: Path
    summary: Path
    summary_table: Path
    comparison_table: Path
    """Written where there is a comparison."""


def evaluation_paths(path: str | Path) -> EvaluationPaths:
    """Return where `write_evaluation` writes.

    Args:
        path: The table, the summary, or a page beside them.
    """
    path = Path(path)
    table = path if path.suffix.lower() == ".csv" else path.with_suffix(".csv")
    return EvaluationPaths(
        table=table,
        summary=path if path.suffix.lower() == ".json" else path.with_suffix(".json"),
        summary_table=table.with_name(f"{table.stem}_summary.csv"),
        comparison_table=table.with_name(f"{table.stem}_comparison.csv"),
    )


def write_evaluation(
    evaluation: Evaluation,
    path: str | Path,
    *,
    comparison: Comparison | None = None,
    calibration: CasesCalibration | None = None,
) -> tuple[Path, Path]:
    """Write the table and the summary side by side; return both paths, the table first.

    The table (`.csv`) has a row for each case and class; a metric that does not apply is an empty
    cell, an infinite distance is `inf`. The summary (`.json`) has the statistics of each class with
    confidence intervals, the means over classes, the failed cases and the undeclared values; what
    is not a finite number is `null` there, and the counts `n`, `n_empty` and `n_infinite` say why.
    The statistics are also written as a table, `<name>_summary.csv`, and so is a comparison,
    `<name>_comparison.csv`. If one of the files cannot be written, all stay as they were.

    Args:
        evaluation: Result of `evaluate_files`.
        path: `x.csv` or `x.json`; the other files get the same name.
        comparison: With other predictions; it is in the summary, too.
        calibration: Of the probabilities; it is in the summary.

    Raises:
        OutputError: The suffix is another one, or the files cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in {".csv", ".json"}:
        raise OutputError(
            f"{path} cannot hold an evaluation; expected a name that ends in .csv (table) or .json "
            "(summary): both are written."
        )
    paths = evaluation_paths(path)
    tables = {paths.table: case_rows(evaluation), paths.summary_table: summary_rows(evaluation)}
    entries = _summary(evaluation)
    if comparison is not None:
        tables[paths.comparison_table] = comparison_rows(comparison)
        entries["comparison"] = _comparison(comparison)
    if calibration is not None:
        entries["calibration"] = _calibration(calibration)
    text = json.dumps(entries, indent=2, allow_nan=False, ensure_ascii=False)
    with ExitStack() as files:  # all are written before the first takes its place
        summary = files.enter_context(replacing(paths.summary))
        summary.write_text(text + "\n", encoding="utf-8")
        for table, rows in tables.items():
            _write_csv(files.enter_context(replacing(table)), rows)
    return paths.table, paths.summary


def case_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a row for each case and class; with the patient, where patients were given."""
    rows = []
    for score in evaluation.rows:
        row = dataclasses.asdict(score)
        if evaluation.patients:
            row["patient"] = evaluation.patient(score.case)
        rows.append(row)
    return rows


def summary_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a row for each class and metric."""
    rows = []
    for name, metrics in evaluation.summary().items():
        for metric, found in metrics.items():
            row = {"name": name, "metric": metric, **dataclasses.asdict(found)}
            low, high = row.pop("interval")
            rows.append({**row, "mean_low": low, "mean_high": high})
    return rows


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row for each class and metric."""
    rows = []
    for found in comparison.rows:
        row = dataclasses.asdict(found)
        low, high = row.pop("interval")
        rows.append({**row, "difference_low": low, "difference_high": high})
    return rows


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        names = rows[0] if rows else [field.name for field in dataclasses.fields(ClassScore)]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "cases": len(evaluation.cases),
        "patients": len({evaluation.patient(case) for case in evaluation.cases}),
        "labels": dict(evaluation.labels),
        "surface_tolerance_mm": evaluation.surface_tolerance_mm,
        "ignored_value": evaluation.ignore,
        "rules": how_computed(evaluation),
        "mean_over_classes": {
            metric: _number(mean) for metric, mean in evaluation.mean_over_classes().items()
        },
        "mean_over_classes_interval": {
            metric: [_number(end) for end in interval]
            for metric, interval in evaluation.intervals_over_classes().items()
        },
        "cases_with_class_in": {
            name: counts._asdict() for name, counts in evaluation.presence().items()
        },
        "classes": {
            name: {metric: _statistics(found) for metric, found in metrics.items()}
            for name, metrics in evaluation.summary().items()
        },
        "failures": evaluation.failures,
        "undeclared_labels": evaluation.undeclared,
    }


def _statistics(found: Statistics) -> dict[str, Any]:
    entry = {
        name: _number(value)
        for name, value in dataclasses.asdict(found).items()
        if name != "interval"
    }
    return {**entry, "interval": [_number(end) for end in found.interval]}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.names[0],
        "second": comparison.names[1],
        "cases": len(comparison.cases),
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
        "tests": comparison.tests,
        "rules": comparison.sentences(),
        "rows": [
            {name: _number(value) for name, value in row.items()}
            for row in comparison_rows(comparison)
        ],
    }


def _calibration(found: CasesCalibration) -> dict[str, Any]:
    return {
        "cases": len(found.cases),
        "voxels": found.calibration.voxels,
        "brier": _number(found.calibration.brier),
        "negative_log_likelihood": _number(found.calibration.negative_log_likelihood),
        "curves": {
            name: {
                "expected_calibration_error": _number(curve.expected_error),
                "brier": _number(curve.brier),
                "bins": [
                    {
                        "voxels": int(voxels),
                        "mean_probability": _number(float(probability)),
                        "share_true": _number(float(share)),
                    }
                    for voxels, probability, share in zip(
                        curve.voxels, curve.mean_probability, curve.share_true, strict=True
                    )
                ],
            }
            for name, curve in found.curves.items()
        },
        "failures": found.failures,
    }


def _number(value: Any) -> Any:
    """Return the value if JSON can hold it: the standard knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> object:
    if isinstance(value, tuple):  # the values of a region
        return " ".join(map(str, value))
    return "" if isinstance(value, float) and math.isnan(value) else value
