"""Change over time: plain arithmetic, and a line through more than two points."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation import change_over_time


def test_two_points():
    found = change_over_time([date(2024, 5, 1), date(2022, 5, 1)], [90.0, 100.0])
    assert (found.first, found.last, found.absolute, found.percent) == (100, 90, -10, -10)
    assert found.years == pytest.approx(2.0, abs=0.002)
    assert found.annual == pytest.approx(-5.0, abs=0.01)
    assert found.annual_percent == pytest.approx(-5.0, abs=0.01)


def test_more_points_give_the_slope_of_a_regression():
    days = [date(2020, 1, 1), date(2020, 9, 12), date(2021, 3, 3), date(2023, 7, 30)]
    values = [10.0, 10.6, 9.9, 12.4]
    found = change_over_time(days, values)
    years = [(day - days[0]).days / 365.25 for day in days]
    assert found.annual == pytest.approx(stats.linregress(years, values).slope)
    assert found.annual_percent == pytest.approx(10 * found.annual)


def test_what_began_with_nothing_has_no_percentage():
    found = change_over_time([date(2020, 1, 1), date(2021, 1, 1)], [0.0, 2.0])
    assert found.absolute == 2
    assert np.isnan([found.percent, found.annual_percent]).all()


def test_what_is_no_course_is_refused():
    day = date(2020, 1, 1)
    with pytest.raises(InputError, match="on 2020-01-01"):
        change_over_time([day, day], [1.0, 2.0])
    for dates, values in (([day], [1.0]), ([day, date(2021, 1, 1)], [1.0, np.inf])):
        with pytest.raises(InputError, match="two dates or more"):
            change_over_time(dates, values)
