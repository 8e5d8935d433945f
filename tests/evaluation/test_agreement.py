"""Agreement of readers: published examples, an independent program, and limits that hold."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.evaluation import intraclass_correlation, limits_of_agreement, measurement_error

# Shrout and Fleiss, Psychological Bulletin 86 (1979), table 2: six subjects, four judges.
SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]
THREE_READERS = [
    [15.03, 18.09, 15.19],
    [11.65, 13.79, 11.21],
    [18.13, 18.77, 17.04],
    [22.66, 22.54, 20.51],
    [26.09, 27.01, 23.04],
    [20.29, 20.07, 19.38],
    [15.95, 17.76, 16.2],
    [15.77, 15.53, 14.68],
    [22.65, 22.89, 22.97],
    [27.06, 29.84, 27.89],
    [19.37, 22.14, 19.26],
    [13.87, 14.38, 10.84],
]
# Bland and Altman, Lancet 327 (1986), table 1: peak flow, first readings of both meters.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


@pytest.mark.parametrize(
    ("table", "value", "interval"),
    [
        # pingouin 0.7.0, intraclass_corr, ICC(A,1), which gives intervals with two digits.
        (SHROUT_FLEISS, 0.289764, (0.02, 0.76)),
        (THREE_READERS, 0.929861, (0.68, 0.98)),
    ],
)
def test_the_correlation_is_that_of_an_independent_program(table, value, interval):
    found = intraclass_correlation(table)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.interval == pytest.approx(interval, abs=0.0051)
    assert (found.subjects, found.readers) == np.shape(table)


def test_the_correlation_of_a_known_mixture():
    """Between subjects 9, between readers 4, rest 1: 9 / (9 + 4 + 1) of the variance."""
    random = np.random.default_rng(0)
    subjects, readers = random.normal(0, 3, (4000, 1)), random.normal(0, 2, (1, 300))
    found = intraclass_correlation(subjects + readers + random.normal(0, 1, (4000, 300)))
    assert found.value == pytest.approx(9 / 14, abs=0.05)


def test_perfect_and_absent_agreement():
    same = np.repeat(np.arange(5.0)[:, None], 3, axis=1)
    assert intraclass_correlation(same).value == 1
    assert intraclass_correlation(same).interval == (1, 1)
    assert np.isnan(intraclass_correlation(np.ones((5, 2))).value)
    for wrong in ([[1.0, 2.0]], [[1.0], [2.0]], [[1.0, np.nan], [2.0, 3.0]]):
        with pytest.raises(InputError, match="at least two subjects"):
            intraclass_correlation(wrong)


def test_limits_are_those_of_the_paper():
    """Printed there: mean -2.1, standard deviation 38.8, standard error of a limit 16.3 l/min."""
    found = limits_of_agreement(MINI, WRIGHT)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.standard_deviation == pytest.approx(38.8, abs=0.05)
    # It takes 2 standard deviations in the place of 1.96.
    assert found.lower == pytest.approx(-79.7 + 0.04 * 38.8, abs=0.1)
    assert found.upper == pytest.approx(75.5 - 0.04 * 38.8, abs=0.1)
    # And sqrt(3) / sqrt(n) in the place of sqrt(1 / n + 1.96**2 / (2 (n - 1))).
    margin = found.upper_interval.high - found.upper
    assert margin / 2.12 == pytest.approx(16.3, rel=0.03)
    with pytest.raises(InputError, match="two readers"):
        limits_of_agreement([1.0], [2.0])


def test_limits_hold_what_they_promise():
    random = np.random.default_rng(0)
    first = random.normal(50, 10, 20_000)
    second = first + random.normal(1.5, 2.0, first.size)
    found = limits_of_agreement(first, second)
    inside = np.mean((second - first > found.lower) & (second - first < found.upper))
    assert inside == pytest.approx(0.95, abs=0.005)
    assert found.bias == pytest.approx(1.5, abs=0.05)


def test_the_measurement_error_of_known_noise():
    random = np.random.default_rng(0)
    repeats = [random.normal(mean, 0.7, 2 + mean % 2) for mean in range(3000)]
    found = measurement_error([*repeats, [5.0]])
    assert found.within_subject == pytest.approx(0.7, rel=0.03)
    assert found.subjects == 3000
    differences = [np.diff(one[:2]) for one in repeats]
    beyond = np.mean(np.abs(differences) > found.smallest_detectable)
    assert beyond == pytest.approx(0.05, abs=0.01)
    with pytest.raises(InputError, match="measured twice"):
        measurement_error([[1.0], [2.0]])
