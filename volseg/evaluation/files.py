"""Evaluating files: read, compare geometry, score; one bad case never stops the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import Cancelled, InputError, VolsegError
from volseg.evaluation.case import METRICS, ClassScore, check_labels, evaluate_case
from volseg.evaluation.pairs import CasePair, check_pairs, pair_files
from volseg.evaluation.summary import Statistics, mean_over_classes, summarize
from volseg.geometry import Grid, require_same_grid
from volseg.io import grid_of, on_source_grid, read_image
from volseg.metrics import count_overlaps

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: a table of cases and classes, and what went wrong."""

    rows: list[ClassScore]
    """One row for each case that could be evaluated and each class."""
    labels: dict[str, int]
    """The classes that were scored, name to value."""
    surface_tolerance_mm: float
    """Distance that counted as agreement in `surface_dice`, in mm."""
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    """Cases that could not be evaluated, with the reason; they are in no row and no mean."""
    undeclared: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """Values found in the maps of a case that are not among `labels`, and so were not scored."""

    def summary(self) -> dict[str, dict[str, Statistics]]:
        """Return the statistics by class name and metric."""
        return summarize(self.rows)

    def mean_over_classes(self) -> dict[str, float]:
        """Return the mean of the class means of each metric."""
        return mean_over_classes(self.summary())


def evaluate_files(
    predictions: str | Path,
    references: str | Path,
    *,
    labels: Mapping[str, int] | None = None,
    surface_tolerance_mm: float = 1.0,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the scores of a file against a file, or of a folder against a folder.

    Args:
        predictions: A label map or a folder of them, paired as `pair_files` says.
        references: A label map or a folder of them.
        labels: The classes to score, name to value. Without it every value found in any map is
            scored, under its number as the name.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        progress: Called with the number of cases done and of all cases.

    Raises:
        InputError: A file has no partner, or an option is out of range. What is wrong with a
            single case is in `Evaluation.failures` instead.
    """
    return evaluate_pairs(
        pair_files(predictions, references),
        labels=labels,
        surface_tolerance_mm=surface_tolerance_mm,
        progress=progress,
    )


def evaluate_pairs(
    pairs: Iterable[CasePair | tuple[str, str | Path, str | Path]],
    *,
    labels: Mapping[str, int] | None = None,
    surface_tolerance_mm: float = 1.0,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the scores of pairs of files: like `evaluate_files`, but paired by the caller.

    Args:
        pairs: Name of the case, file of the prediction, file of the reference.
        labels: The classes to score, name to value; all found without it.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        progress: Called with the number of cases done and of all cases.

    Raises:
        InputError: There is no pair, a case appears twice, or an option is out of range.
    """
    checked = check_pairs(pairs)
    if labels is not None:
        check_labels(labels)
    if not np.isfinite(surface_tolerance_mm) or surface_tolerance_mm < 0:
        raise InputError(
            f"the surface tolerance is {surface_tolerance_mm} mm; expected a number of at least 0."
        )
    cases: dict[str, list[ClassScore]] = {}
    failures: dict[str, str] = {}
    undeclared: dict[str, list[int]] = {}
    for done, pair in enumerate(checked, start=1):
        try:
            cases[pair.case], others = _evaluate_pair(pair, labels, surface_tolerance_mm)
            if others:
                undeclared[pair.case] = others
        except Cancelled:
            raise
        except VolsegError as error:
            failures[pair.case] = str(error)
        if progress is not None:
            progress(done, len(checked))
    if labels is None:
        labels = _found(cases.values())
    rows = [
        next((row for row in found if row.label == label), _absent(case, name, label))
        for case, found in cases.items()
        for name, label in labels.items()
    ]
    return Evaluation(rows, dict(labels), surface_tolerance_mm, failures, undeclared)


def _evaluate_pair(
    pair: CasePair, labels: Mapping[str, int] | None, surface_tolerance_mm: float
) -> tuple[list[ClassScore], list[int]]:
    """Return the rows of a case, and the values in its maps that were not asked for."""
    prediction, grid = _read_label_map(pair.prediction)
    reference, reference_grid = _read_label_map(pair.reference)
    names = f"the prediction {pair.prediction} and the reference {pair.reference}"
    require_same_grid(grid, reference_grid, what=names)
    found = sorted(count_overlaps(prediction, reference))
    declared = {str(value): value for value in found} if labels is None else labels
    others = [value for value in found if value not in declared.values()]
    if not declared:
        return [], []
    rows = evaluate_case(
        prediction,
        reference,
        labels=declared,
        spacing=grid.spacing,
        surface_tolerance_mm=surface_tolerance_mm,
        case=pair.case,
    )
    return rows, others


def _read_label_map(path: Path) -> tuple[npt.NDArray[Any], Grid]:
    image = read_image(path)
    if image.shape[0] != 1:
        raise InputError(
            f"{path} has {image.shape[0]} channels; expected a label map with one: a file of one "
            "mask a channel cannot be evaluated."
        )
    try:
        values: npt.NDArray[Any] = on_source_grid(image, image).as_tensor().numpy()[0]
    except InputError as error:
        raise InputError(f"{path} is not a label map: {error}") from error
    return values, grid_of(image)


def _found(cases: Iterable[list[ClassScore]]) -> dict[str, int]:
    return {str(label): label for label in sorted({row.label for rows in cases for row in rows})}


def _absent(case: str, name: str, label: int) -> ClassScore:
    """Return the row of a class that neither map of a case holds."""
    nothing = dict.fromkeys(METRICS, float("nan"))
    return ClassScore(case, name, label, prediction_voxels=0, reference_voxels=0, **nothing)
