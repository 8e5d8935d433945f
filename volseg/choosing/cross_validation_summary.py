"""The figures of a cross-validation: of each fold, and of all held-out cases together."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.atomic import replacing
from volseg.evaluation import Evaluation

_REPORTED = ("dice", "iou", "surface_dice", "hausdorff95_mm")


def summary_of(pooled: Evaluation, of_fold: Mapping[int, Evaluation]) -> dict[str, Any]:
    """Return the means over held-out cases and folds as plain values, intervals by patient."""
    return {
        "cases": len(pooled.cases),
        "patients": len({pooled.patient(case) for case in pooled.cases}),
        "metrics": {
            name: {
                metric: {
                    "mean": _rounded(table[metric].mean),
                    "interval": [_rounded(end) for end in table[metric].interval],
                    "folds": {
                        str(fold): _rounded(own.summary()[name][metric].mean)
                        for fold, own in of_fold.items()
                    },
                }
                for metric in _REPORTED
            }
            for name, table in pooled.summary().items()
        },
    }


def write_fold_table(path: Path, of_fold: Mapping[int, Evaluation], pooled: Evaluation) -> None:
    """Write the means of each fold and of all cases, a row a fold, class and metric."""
    parts = [*((str(fold), own) for fold, own in of_fold.items()), ("all", pooled)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["fold", "name", "metric", "mean", "low", "high", "cases", "patients"])
        for fold, evaluation in parts:
            for name, table in evaluation.summary().items():
                for metric, found in table.items():
                    numbers = (found.mean, *found.interval)
                    written = ["" if math.isnan(value) else value for value in numbers]
                    writer.writerow([fold, name, metric, *written, found.n, found.patients])


def _rounded(value: float) -> float | None:
    return round(value, 6) if abs(value) < float("inf") else None
