"""One page that says what a set of predictions is worth: numbers, charts, and the worst cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import volseg
from volseg.atomic import write_text
from volseg.errors import Cancelled, VolsegError
from volseg.evaluation import (
    CasesCalibration,
    ClassScore,
    Comparison,
    Evaluation,
    how_computed,
    length_unit,
    read_pair,
)
from volseg.geometry import Grid, require_same_grid
from volseg.io import grid_of, image_name, read_image
from volseg.report.agreement_chart import agreement_charts
from volseg.report.chart_marks import EDGE, SQUARE
from volseg.report.error_picture import ErrorPicture, error_picture
from volseg.report.reliability_chart import reliability_chart
from volseg.report.strip_chart import FOOT, WIDTH, difference_chart, strip_chart
from volseg.report.structure_colors import structure_colors
from volseg.report.templates import render, template_text
from volseg.segmenter import RECORD_SUFFIX, read_record

_COMPARED = ("dice", "hausdorff95_mm")


@dataclass(frozen=True)
class Compared:
    """What the page says of other predictions of the same cases.

    Attributes:
        evaluation: Of the others.
        comparison: Of the page's evaluation with theirs.
    """

    evaluation: Evaluation
    comparison: Comparison


@dataclass(frozen=True)
class WorstCase:
    """A case in the gallery: where it is wrong, or why that cannot be shown."""

    case: str
    patient: str
    mean: float
    rows: list[ClassScore]
    picture: ErrorPicture | None
    trouble: str | None


def write_evaluation_page(
    evaluation: Evaluation,
    path: str | Path,
    *,
    title: str,
    compared: Compared | None = None,
    calibration: CasesCalibration | None = None,
    images: Path | None = None,
    pictures: int = 12,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a page of an evaluation that needs nothing beside it, and no network.

    Args:
        evaluation: What it is of.
        path: The `.html` file to write; it appears whole or not at all.
        title: What was evaluated.
        compared: Other predictions of the same cases.
        calibration: Of the probabilities.
        images: Folder of the images, `<case>` with the suffix of an image; without it they are
            where the record of `volseg segment` beside a prediction says.
        pictures: How many cases are shown, those with the lowest mean Dice first.
        progress: Called as ``progress(done, total)`` with cases that are drawn.

    Raises:
        OutputError: The page cannot be written.
    """
    text = render(
        "evaluation.html",
        title=title,
        evaluation=evaluation,
        patients=len({evaluation.patient(case) for case in evaluation.cases}),
        metrics=evaluation.metrics,
        summary=evaluation.summary(),
        presence=evaluation.presence(),
        over_classes=evaluation.mean_over_classes(),
        over_classes_intervals=evaluation.intervals_over_classes(),
        colors=structure_colors(evaluation.labels),
        layout={"WIDTH": WIDTH, "FOOT": FOOT, "SQUARE": SQUARE, "EDGE": EDGE},
        strips=[strip_chart(evaluation, metric) for metric in evaluation.metrics]
        if evaluation.rows
        else [],
        agreements=agreement_charts(evaluation),
        compared=compared,
        differences=[]
        if compared is None
        else [
            difference_chart(evaluation, compared.evaluation, compared.comparison, metric)
            for metric in _COMPARED
        ],
        calibration=calibration,
        reliabilities=[]
        if calibration is None
        else [reliability_chart(name, curve) for name, curve in calibration.curves.items()],
        worst=_worst(evaluation, images, pictures, progress),
        rows=_rows(evaluation),
        data=_data(evaluation),
        made=[*how_computed(evaluation), *_versions()],
        volseg=volseg.__version__,
        script=template_text("table.js") + template_text("evaluation.js"),
    )
    write_text(path, text)


def mean_dice(rows: Sequence[ClassScore]) -> float:
    """Return the mean Dice over the classes of a case that one of its maps holds; NaN of none."""
    known = [row.dice for row in rows if math.isfinite(row.dice)]
    return float(np.mean(known)) if known else math.nan


def _by_case(evaluation: Evaluation) -> dict[str, list[ClassScore]]:
    found: dict[str, list[ClassScore]] = {}
    for row in evaluation.rows:
        found.setdefault(row.case, []).append(row)
    return found


def _ordered(evaluation: Evaluation) -> list[tuple[str, float, list[ClassScore]]]:
    """Return the cases with their mean Dice, the worst first, those without one last."""
    cases = [(case, mean_dice(rows), rows) for case, rows in _by_case(evaluation).items()]
    return sorted(cases, key=lambda one: (math.isnan(one[1]), one[1], one[0]))


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the rows of the table, with the Dice of each class."""
    return [
        {
            "case": case,
            "patient": evaluation.patient(case),
            "mean": mean,
            "dice": [row.dice for row in rows],
        }
        for case, mean, rows in _ordered(evaluation)
    ]


def _data(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the script fills the table with: by metric and case, a number a class."""
    return {
        "decimals": {name: metric.decimals for name, metric in evaluation.metrics.items()},
        "values": {
            name: {
                case: [_number(getattr(row, name)) for row in rows]
                for case, rows in _by_case(evaluation).items()
            }
            for name in evaluation.metrics
        },
    }


def _number(value: float) -> float | str | None:
    if math.isinf(value):
        return "inf"
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _worst(
    evaluation: Evaluation,
    images: Path | None,
    pictures: int,
    progress: Callable[[int, int], None] | None,
) -> list[WorstCase]:
    chosen = [one for one in _ordered(evaluation) if one[0] in evaluation.pairs][:pictures]
    found = []
    for done, (case, mean, rows) in enumerate(chosen, start=1):
        picture = trouble = None
        try:
            picture, trouble = _picture(evaluation, case, images)
        except Cancelled:
            raise
        except VolsegError as error:
            trouble = str(error)
        found.append(WorstCase(case, evaluation.patient(case), mean, rows, picture, trouble))
        if progress is not None:
            progress(done, len(chosen))
    return found


def _picture(
    evaluation: Evaluation, case: str, images: Path | None
) -> tuple[ErrorPicture, str | None]:
    """Return the picture of a case, and why it is without its image."""
    pair = evaluation.pairs[case]
    maps = read_pair(pair)
    if evaluation.ignore is not None:
        unknown = maps.reference == evaluation.ignore
        maps.prediction[unknown] = maps.reference[unknown] = 0
    values: npt.NDArray[Any] | None = None
    trouble: str | None = None
    try:
        path = _image_of(case, pair.prediction.parent, images)
        if path is None:
            trouble = "Its image was not found."
        else:
            values = _values_of(path, pair.prediction, maps.grid)
    except VolsegError as error:
        trouble = str(error)
    return error_picture(maps, values, evaluation.labels), trouble


def _values_of(path: Path, prediction: Path, grid: Grid) -> npt.NDArray[Any]:
    """Return the first channel of an image on the grid of a label map, or the colours of one."""
    image = read_image(path)
    found = grid_of(image)
    # A picture does not say where its pixels lie.
    is_picture = "pixels" in (length_unit([path]), length_unit([prediction]))
    if not (is_picture and found.shape == grid.shape):
        require_same_grid(found, grid, what=f"the image {path} and {prediction}")
    values: npt.NDArray[Any] = image.as_tensor().numpy()
    in_colour = len(grid.shape) == 2 and values.shape[0] in (3, 4)
    return values[: 3 if in_colour else 1]


def _image_of(case: str, predictions: Path, images: Path | None) -> Path | None:
    """Return the image of a case: in a folder, or where the record of its segmentation says."""
    if images is not None:
        names = {image_name(path): path for path in sorted(images.iterdir())}
        return names.get(case) or names.get(f"{case}_0000")
    record = predictions / f"{case}{RECORD_SUFFIX}"
    if not record.is_file():
        return None
    path = Path(read_record(record).image)
    return path if path.exists() else None


def _versions() -> list[str]:
    import scipy  # noqa: PLC0415 - only for its version

    return [
        f"Computed by volseg {volseg.__version__} with numpy {np.__version__} and scipy "
        f"{scipy.__version__}."
    ]
