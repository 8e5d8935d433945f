"""Charts of one metric: a strip a class, with its cases, quartiles, mean and interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.evaluation import Better, ClassScore, Comparison, Evaluation, Interval
from volseg.report.axis import Axis, axis_of
from volseg.report.chart_marks import Point, dots_path
from volseg.report.structure_colors import structure_colors

Values = npt.NDArray[np.float64]

WIDTH, ROW, FOOT = 520, 42, 30
# Of more cases a strip shows only those beyond the whiskers: a page of a thousand stays small.
_MOST_POINTS = 150
_MOST_LETTERS = 20
_LETTER = 6.6
# Golden steps spread neighbours apart, and are the same for the same cases.
_GOLDEN = 0.618033988749895


@dataclass(frozen=True)
class Strip:
    """One class in a chart of one metric.

    Attributes:
        name: As the label says it.
        full_name: Of the class.
        color: Of the class.
        y: Middle of the strip.
        dots: Path of the cases within the whiskers.
        outliers: Cases beyond them.
        box: Lower whisker, lower quartile, median, upper quartile and upper whisker; None of no
            case.
        mean: Its place.
        interval: Of the mean; None if there is none.
    """

    name: str
    full_name: str
    color: str
    y: float
    dots: str
    outliers: list[Point]
    box: tuple[float, ...] | None
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class StripChart:
    """All classes in one metric."""

    title: str
    hint: str
    gutter: float
    height: float
    ticks: list[tuple[float, str]]
    zero: float | None
    strips: list[Strip]
    thinned: bool


def strip_chart(evaluation: Evaluation, metric: str) -> StripChart:
    """Return the chart of one metric."""
    about = evaluation.metrics[metric]
    columns = {
        name: [row for row in evaluation.rows if row.name == name] for name in evaluation.labels
    }
    values = [getattr(row, metric) for row in evaluation.rows]
    if about.better is Better.HIGHER:
        within, hint, kept = (0.0, 1.0), "1 is perfect", [*values, 1.0]
    elif about.better is Better.LOWER:
        within, hint, kept = (0.0, math.inf), "0 is perfect", [*values, 0.0]
    else:
        within, hint, kept = (-math.inf, math.inf), "above 0 is too large", [*values, 0.0]
    gutter = _gutter(columns)
    axis = axis_of(kept, start=gutter, end=WIDTH - 24, within=within)
    summary, colors = evaluation.summary(), structure_colors(evaluation.labels)
    strips = []
    for place, (name, rows) in enumerate(columns.items()):
        found = summary[name][metric]
        strips.append(
            _strip(
                rows,
                [getattr(row, metric) for row in rows],
                axis,
                y=ROW * (place + 0.45),
                color=colors[name],
                middle=(found.mean, found.interval),
            )
        )
    signed = about.better is Better.NEARER_ZERO
    return StripChart(
        title=about.heading,
        hint=hint,
        gutter=gutter,
        height=ROW * len(strips),
        ticks=axis.ticks(),
        zero=axis.at(0) if signed else None,
        strips=strips,
        thinned=any(len(rows) > _MOST_POINTS for rows in columns.values()),
    )


def difference_chart(
    first: Evaluation, second: Evaluation, comparison: Comparison, metric: str
) -> StripChart:
    """Return the chart of how much each case differs between two sets of predictions."""
    others = {(row.case, row.name): row for row in second.rows}
    cases = set(comparison.cases)
    rows = [row for row in first.rows if row.case in cases and (row.case, row.name) in others]
    about = first.metrics[metric]
    found = {(row.name, row.metric): row for row in comparison.rows}
    gains: dict[str, tuple[list[ClassScore], list[float]]] = {}
    for row in rows:
        of_class, values = gains.setdefault(row.name, ([], []))
        of_class.append(row)
        values.append(getattr(row, metric) - getattr(others[row.case, row.name], metric))
    everything = [value for _, values in gains.values() for value in values]
    gutter = _gutter(gains)
    axis = axis_of([*everything, 0.0], start=gutter, end=WIDTH - 24)
    colors = structure_colors(first.labels)
    strips = []
    for place, (name, (of_class, values)) in enumerate(gains.items()):
        compared = found[name, metric]
        strips.append(
            _strip(
                of_class,
                values,
                axis,
                y=ROW * (place + 0.45),
                color=colors[name],
                middle=(compared.difference, compared.interval),
            )
        )
    return StripChart(
        title=f"Difference in {about.heading}",
        hint=f"{'right' if about.better is Better.HIGHER else 'left'} of 0 {comparison.names[0]} "
        "is better",
        gutter=gutter,
        height=ROW * len(strips),
        ticks=axis.ticks(),
        zero=axis.at(0),
        strips=strips,
        thinned=any(len(values) > _MOST_POINTS for _, values in gains.values()),
    )


def _gutter(names: Iterable[str]) -> float:
    """Return the room that names need at the left."""
    return 28 + _LETTER * max(min(len(name), _MOST_LETTERS) for name in names)


def _strip(
    rows: Sequence[ClassScore],
    values: Sequence[float],
    axis: Axis,
    *,
    y: float,
    color: str,
    middle: tuple[float, Interval],
) -> Strip:
    mean, interval = middle
    known = [(value, row) for value, row in zip(values, rows, strict=True) if math.isfinite(value)]
    box, dots, outliers = None, "", []
    if known:
        ends = _whiskers(np.array([value for value, _ in known]))
        box = tuple(axis.at(value) for value in ends)
        drawn = []
        for index, (value, row) in enumerate(known):
            place = round(y + 18 * ((index * _GOLDEN) % 1 - 0.5), 1)
            if not ends[0] <= value <= ends[-1]:
                outliers.append(Point(axis.at(value), place, f"{row.case}: {value:.4g}"))
            elif len(known) <= _MOST_POINTS:
                drawn.append((axis.at(value), place))
        dots = dots_path(drawn)
    name = rows[0].name
    return Strip(
        name=name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…",
        full_name=name,
        color=color,
        y=y,
        dots=dots,
        outliers=outliers,
        box=box,
        mean=axis.at(mean) if math.isfinite(mean) else 0.0,
        interval=(axis.at(interval[0]), axis.at(interval[1]))
        if math.isfinite(interval[0])
        else None,
    )


def _whiskers(values: Values) -> tuple[float, float, float, float, float]:
    """Return the farthest values within 1.5 quartile distances, and the quartiles (Tukey 1977)."""
    low, middle, high = (float(one) for one in np.percentile(values, (25, 50, 75)))
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return float(inside.min()), low, middle, high, float(inside.max())
