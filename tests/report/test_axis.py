"""Axes of charts."""

from __future__ import annotations

import math

import pytest

from volseg.report.axis import Axis, axis_of


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ([0.91, 0.97, 1.0], (0, 1)),
        ([0.0, 3.2, 81.0, math.inf], (0, math.inf)),
        ([-4e-4, 7e-4, math.nan], (-math.inf, math.inf)),
        ([1.0, 1.0], (0, 1)),
        ([0.0], (0, math.inf)),
        ([], (-math.inf, math.inf)),
        ([1e7, 3e7], (0, math.inf)),
    ],
)
def test_an_axis_holds_all_values_and_round_numbers(values, within):
    axis = axis_of(values, start=100, end=500, within=within)
    for value in values:
        if math.isfinite(value):
            assert 100 <= axis.at(value) <= 500
    assert within[0] <= axis.low < axis.high <= within[1]
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(100 <= place <= 500 for place, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    for place, text in ticks:
        assert axis.at(float(text)) == pytest.approx(place, abs=0.11)


def test_an_axis_may_go_up():
    axis = Axis(0, 10, 200, 0)
    assert (axis.at(0), axis.at(5), axis.at(10)) == (200, 100, 0)
    assert [text for _, text in axis.ticks()] == ["0", "2", "4", "6", "8", "10"]
