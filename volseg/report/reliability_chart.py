"""Charts of calibration: how often things were true over how probable they were said to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volseg.metrics import Reliability
from volseg.report.axis import Axis
from volseg.report.chart_marks import EDGE, SQUARE, Point


@dataclass(frozen=True)
class ReliabilityChart:
    """How often things were true over how probable they were said to be.

    Attributes:
        name: Of what.
        curve: Its numbers.
        ticks: Places and texts across.
        y_ticks: Places and texts upwards.
        points: A bin that holds voxels each.
        line: Path through them.
        diagonal: Path on which probabilities are calibrated.
        bars: Left, width and height of each bin's number of voxels.
    """

    name: str
    curve: Reliability
    ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    points: list[Point]
    line: str
    diagonal: str
    bars: list[tuple[float, float, float]]


def reliability_chart(name: str, curve: Reliability) -> ReliabilityChart:
    """Return the chart of one curve; bars show how many voxels are in each bin, as logarithms."""
    axis = Axis(0, 1, EDGE, SQUARE - 8)
    up = Axis(0, 1, SQUARE - EDGE, 8)
    points = [
        Point(
            axis.at(probability),
            up.at(share),
            f"said {probability:.3f}, true {share:.3f}, {voxels:,} voxels",
        )
        for probability, share, voxels in zip(
            curve.mean_probability, curve.share_true, curve.voxels, strict=True
        )
        if voxels
    ]
    width = (axis.end - axis.start) / len(curve.voxels)
    most = math.log1p(float(curve.voxels.max()))
    heights = [math.log1p(float(count)) / (most or 1) for count in curve.voxels]
    bars = [
        (round(axis.start + index * width + 0.5, 1), round(width - 1, 1), round(40 * height, 1))
        for index, height in enumerate(heights)
    ]
    line = " ".join(f"{'L' if index else 'M'}{p.x} {p.y}" for index, p in enumerate(points))
    diagonal = f"M{axis.at(0)} {up.at(0)}L{axis.at(1)} {up.at(1)}"
    return ReliabilityChart(name, curve, axis.ticks(4), up.ticks(4), points, line, diagonal, bars)
