"""One page for many cases: a table to sort and to filter, outliers first, and the volumes drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volseg.atomic import write_text
from volseg.label_colors import html_color
from volseg.metrics import LabelStatistics
from volseg.quality import SEVERITIES
from volseg.report.templates import render, template_text
from volseg.segmenter import CaseRecord

_MOST_BINS = 24
# What is usual is not known of fewer cases, and not more exactly than this ratio.
_LEAST_CASES = 5
_LEAST_SPREAD = 0.05
_WIDTH, _HEIGHT, _FLOOR = 360, 120, 18
# Of a normal distribution, the standard deviation in median absolute deviations.
_NORMAL = 1.4826


@dataclass(frozen=True)
class CohortCase:
    """A case in the table.

    Attributes:
        record: What is known of it.
        page: Address of its page, relative to that of the cohort; None if it has none.
        further: Values of further columns, by their headings.
    """

    record: CaseRecord
    page: str | None
    further: Mapping[str, str]


def write_cohort_page(cases: Sequence[CohortCase], path: str | Path, *, volseg: str) -> None:
    """Write a page of many cases that needs nothing beside it, and no network.

    Cases come with those first that most stands out in: by the severity of their flags, then by
    how far a volume is from those of the other cases.

    Args:
        cases: In any order.
        path: The `.html` file to write; it appears whole or not at all.
        volseg: The version that writes it.

    Raises:
        OutputError: The page cannot be written.
    """
    names = list(dict.fromkeys(row.name for case in cases for row in case.record.statistics.labels))
    sizes = [{row.name: _size(row) for row in case.record.statistics.labels} for case in cases]
    distances = _distances(sizes, names)
    further = list(dict.fromkeys(name for case in cases for name in case.further))
    rows: list[dict[str, Any]] = [
        {
            "case": case.record.case,
            "page": case.page,
            "severity": case.record.quality.severity or "",
            "rank": _rank(case.record),
            "flags": [flag.sentence for flag in case.record.quality.flags],
            "distance": distance,
            "sizes": [found.get(name) for name in names],
            "seconds": case.record.seconds,
            "memory": case.record.peak_memory_bytes / 1e9,
            "further": [case.further.get(name, "") for name in further],
        }
        for case, found, distance in zip(cases, sizes, distances, strict=True)
    ]
    rows.sort(key=lambda row: (-row["rank"], -row["distance"], row["case"]))
    solid = all(len(case.record.grid.shape) == 3 for case in cases)
    text = render(
        "cohort.html",
        rows=rows,
        names=names,
        unit="mL" if solid else "pixels",
        further=further,
        counts={name: sum(row["severity"] == name for row in rows) for name in SEVERITIES},
        histograms=_histograms(cases, sizes, names),
        script=template_text("table.js"),
        volseg=volseg,
    )
    write_text(path, text)


def _size(row: LabelStatistics) -> float:
    return (row.area_mm2 or 0.0) if row.volume_ml is None else row.volume_ml


def _rank(record: CaseRecord) -> int:
    severity = record.quality.severity
    return 0 if severity is None else 1 + SEVERITIES.index(severity)


def _distances(sizes: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[float]:
    """Return how far the most unusual structure of each case is from the median of all cases.

    In robust standard deviations of the logarithm of its size.
    """
    found = np.zeros(len(sizes))
    for name in names:
        logarithms = np.array([math.log(one[name]) if one.get(name) else math.nan for one in sizes])
        if np.isfinite(logarithms).sum() < _LEAST_CASES:
            continue
        apart = np.abs(logarithms - np.nanmedian(logarithms))
        spread = max(_NORMAL * np.nanmedian(apart), _LEAST_SPREAD)
        found = np.fmax(found, apart / spread)
    return [float(value) for value in found]


def _histograms(
    cases: Sequence[CohortCase], sizes: Sequence[Mapping[str, float]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a drawing for each structure: bars, and a tick for each case."""
    colors = {row.name: row.label for case in cases for row in case.record.statistics.labels}
    drawings = []
    for name in names:
        known = [(one[name], case) for one, case in zip(sizes, cases, strict=True) if one.get(name)]
        if not known:
            continue
        values = np.array([value for value, _ in known])
        low, high = float(values.min()), float(values.max())
        wide = (high - low) or high or 1.0
        bins = min(_MOST_BINS, max(5, round(2 * math.sqrt(values.size))))
        counts, _ = np.histogram(values, bins=bins, range=(low, low + wide))
        bar = _WIDTH / bins
        drawings.append(
            {
                "name": name,
                "color": html_color(colors[name]),
                "cases": len(known),
                "median": float(np.median(values)),
                "low": low,
                "high": low + wide,
                "bars": [
                    {
                        "x": round(index * bar, 2),
                        "width": round(bar - 1, 2),
                        "height": round((_HEIGHT - _FLOOR) * count / counts.max(), 2),
                        "count": int(count),
                    }
                    for index, count in enumerate(counts)
                ],
                "ticks": [
                    {
                        "x": round(_WIDTH * (value - low) / wide, 2),
                        "case": case.record.case,
                        "page": case.page,
                        "value": value,
                    }
                    for value, case in known
                ],
            }
        )
    return drawings
