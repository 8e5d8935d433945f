"""Evaluating files: read, compare geometry, score; one bad case never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from volseg.errors import Cancelled, InputError, VolsegError
from volseg.evaluation.case import (
    check_ignored,
    check_labels,
    evaluate_case,
    label_of,
    values_of,
)
from volseg.evaluation.class_score import ClassScore
from volseg.evaluation.empty_rule import LEAVE_OUT, EmptyRule
from volseg.evaluation.evaluation import Evaluation
from volseg.evaluation.label_maps import read_pair
from volseg.evaluation.pairs import CasePair, check_pairs, length_unit, pair_files
from volseg.evaluation.patients import require_patients

Progress = Callable[[int, int], None]


def evaluate_files(
    predictions: str | Path,
    references: str | Path,
    *,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    surface_tolerance_mm: float = 1.0,
    ignore: int | None = None,
    empty: EmptyRule = LEAVE_OUT,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the scores of a file against a file, or of a folder against a folder.

    Args:
        predictions: A label map or a folder of them, paired as `pair_files` says.
        references: A label map or a folder of them.
        labels: The classes to score, name to value, or to the values of a region. Without it every
            value found in any map is scored, under its number as the name.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        ignore: Voxels whose reference has this value count in no metric.
        empty: How a class counts that a map lacks.
        progress: Called with the number of cases done and of all cases.

    Raises:
        InputError: A file has no partner, or an option is out of range. What is wrong with a
            single case is in `Evaluation.failures` instead.
    """
    return evaluate_pairs(
        pair_files(predictions, references),
        labels=labels,
        surface_tolerance_mm=surface_tolerance_mm,
        ignore=ignore,
        empty=empty,
        progress=progress,
    )


def evaluate_pairs(
    pairs: Iterable[CasePair | tuple[str, str | Path, str | Path]],
    *,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    surface_tolerance_mm: float = 1.0,
    ignore: int | None = None,
    empty: EmptyRule = LEAVE_OUT,
    patients: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the scores of pairs of files: like `evaluate_files`, but paired by the caller.

    Args:
        pairs: Name of the case, file of the prediction, file of the reference.
        labels: The classes to score, name to value (regions: values); all found without it.
        surface_tolerance_mm: Distance that still counts as agreement in `surface_dice`, in mm.
        ignore: Voxels whose reference has this value count in no metric.
        empty: How a class counts that a map lacks.
        patients: Whom each case is of, for the confidence intervals; a patient a case without it.
        progress: Called with the number of cases done and of all cases.

    Raises:
        InputError: There is no pair, a case appears twice or has no patient, or an option is out
            of range.
    """
    checked = check_pairs(pairs)
    if labels is not None:
        check_labels(labels)
    if ignore is not None:
        check_ignored(ignore, labels or {})
    if patients is not None:
        require_patients(patients, [pair.case for pair in checked], "the list given")
    if not np.isfinite(surface_tolerance_mm) or surface_tolerance_mm < 0:
        raise InputError(
            f"the surface tolerance is {surface_tolerance_mm} mm; expected a number of at least 0."
        )
    score = partial(
        evaluate_case, surface_tolerance_mm=surface_tolerance_mm, ignore=ignore, empty=empty
    )
    cases: dict[str, list[ClassScore]] = {}
    failures: dict[str, str] = {}
    undeclared: dict[str, list[int]] = {}
    for done, pair in enumerate(checked, start=1):
        try:
            cases[pair.case], others = _evaluate_pair(pair, labels, ignore, score)
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
        next(
            (row for row in found if row.name == name),
            empty.applied(ClassScore.absent(case, name, label_of(label))),
        )
        for case, found in cases.items()
        for name, label in labels.items()
    ]
    return Evaluation(
        rows=rows,
        labels={name: label_of(label) for name, label in labels.items()},
        surface_tolerance_mm=surface_tolerance_mm,
        failures=failures,
        undeclared=undeclared,
        ignore=ignore,
        empty=empty,
        patients=dict(patients or {}),
        pairs={pair.case: pair for pair in checked},
        length_unit=length_unit(pair.reference for pair in checked),
    )


def _evaluate_pair(
    pair: CasePair,
    labels: Mapping[str, int | Sequence[int]] | None,
    ignore: int | None,
    score: Callable[..., list[ClassScore]],
) -> tuple[list[ClassScore], list[int]]:
    """Return the rows of a case, and the values in its maps that were not asked for."""
    maps = read_pair(pair)
    found = [value for value in maps.values() if value != ignore]
    declared = labels or {str(value): value for value in found if labels is None}
    known = {value for label in declared.values() for value in values_of(label)}
    others = [value for value in found if value not in known]
    if not declared:
        return [], others
    steps = maps.grid.affine.matrix[:-1, :-1]
    rows = score(maps.prediction, maps.reference, labels=declared, spacing=steps, case=pair.case)
    return rows, others


def _found(cases: Iterable[list[ClassScore]]) -> dict[str, int]:
    names = {row.name for rows in cases for row in rows}
    return {str(label): label for label in sorted(map(int, names))}
