"""Charts of volumes: how far predictions are from references, for small and large structures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.evaluation import ClassScore, Evaluation, LimitsOfAgreement, limits_of_agreement
from volseg.report.axis import axis_of
from volseg.report.chart_marks import EDGE, SQUARE, Point, dots_path
from volseg.report.structure_colors import structure_colors

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AgreementChart:
    """Difference of predicted and true volume over their mean (Bland and Altman 1986).

    Attributes:
        name: Of the class.
        color: Of the class.
        unit: Of the volumes; pixels in pictures.
        limits: Between which 95 % of the differences are expected.
        x_ticks: Places and texts.
        y_ticks: Places and texts.
        lines: Upper limit, bias and lower limit: places and texts.
        dots: Path of the cases within the limits.
        outliers: Cases beyond them.
        zero: Place of no difference.
    """

    name: str
    color: str
    unit: str
    limits: LimitsOfAgreement
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[float, str]]
    dots: str
    outliers: list[Point]
    zero: float


def agreement_charts(evaluation: Evaluation) -> list[AgreementChart]:
    """Return a chart for each class that two cases or more hold, in either map."""
    charts = []
    for name, color in structure_colors(evaluation.labels).items():
        rows = [
            row
            for row in evaluation.rows
            if row.name == name and row.prediction_voxels + row.reference_voxels
        ]
        solid = all(math.isfinite(row.reference_ml) for row in rows)
        if solid:
            pairs = [(row.reference_ml, row.prediction_ml) for row in rows]
        else:
            pairs = [(float(row.reference_voxels), float(row.prediction_voxels)) for row in rows]
        if len(pairs) > 1:
            unit = "mL" if solid else "pixels"
            charts.append(_agreement(name, color, unit, rows, np.array(pairs)))
    return charts


def _agreement(
    name: str, color: str, unit: str, rows: Sequence[ClassScore], pairs: Values
) -> AgreementChart:
    limits = limits_of_agreement(pairs[:, 0].tolist(), pairs[:, 1].tolist())
    means, differences = pairs.mean(axis=1), pairs[:, 1] - pairs[:, 0]
    across = axis_of(means.tolist(), start=EDGE + 12, end=SQUARE + 40, within=(0, math.inf))
    up = axis_of(
        [*differences.tolist(), limits.lower, limits.upper, 0.0], start=SQUARE - EDGE, end=8
    )
    within, beyond = [], []
    for row, x, y in zip(rows, means, differences, strict=True):
        place = across.at(float(x)), up.at(float(y))
        if limits.lower <= y <= limits.upper:
            within.append(place)
        else:
            beyond.append(Point(*place, f"{row.case}: {y:+.3g} {unit}"))
    return AgreementChart(
        name=name,
        color=color,
        unit=unit,
        limits=limits,
        x_ticks=across.ticks(4),
        y_ticks=up.ticks(5),
        lines=[
            (up.at(limits.upper), f"{limits.upper:+.3g}"),
            (up.at(limits.bias), f"{limits.bias:+.3g}"),
            (up.at(limits.lower), f"{limits.lower:+.3g}"),
        ],
        dots=dots_path(within),
        outliers=beyond,
        zero=up.at(0),
    )
