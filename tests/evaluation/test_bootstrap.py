"""Intervals against SciPy's bootstrap, and what they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation import intervals_of_means


def test_one_case_a_patient_gives_the_interval_of_scipy():
    values = np.random.default_rng(0).lognormal(0, 0.6, (40, 2))
    found = intervals_of_means(values, [str(case) for case in range(40)])
    for column, interval in zip(values.T, found, strict=True):
        independent = stats.bootstrap(
            (column,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(1)
        ).confidence_interval
        # Two draws of 9999 resamples agree to about 2 % of the width of the interval.
        width = independent.high - independent.low
        assert interval == pytest.approx(tuple(independent), abs=0.04 * width)


def test_several_cases_a_patient_give_the_interval_of_whole_patients():
    """SciPy draws pairs (sum, count) of patients, which is the same."""
    random = np.random.default_rng(2)
    patients = [str(number) for number in np.repeat(np.arange(25), random.integers(1, 5, 25))]
    values = np.array([int(one) % 7 for one in patients]) + random.normal(0, 0.3, len(patients))
    (interval,) = intervals_of_means(values[:, np.newaxis], patients)
    names = sorted(set(patients))
    sums = [values[[one == name for one in patients]].sum() for name in names]
    counts = [patients.count(name) for name in names]
    independent = stats.bootstrap(
        (sums, counts),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = independent.high - independent.low
    assert interval == pytest.approx(tuple(independent), abs=0.04 * width)
    # Cases that are taken for independent look more certain than they are.
    (naive,) = intervals_of_means(values[:, np.newaxis], [str(i) for i in range(len(values))])
    assert interval.high - interval.low > 1.2 * (naive.high - naive.low)


def test_patients_without_a_value_do_not_count():
    values = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, np.inf], [3.0, 6.0], [3.0, 9.0]])
    patients = ["a", "b", "c", "d", "e"]
    _, second = intervals_of_means(values, patients)
    (alone,) = intervals_of_means(values[[1, 3, 4], 1:], ["b", "d", "e"])
    assert second == alone
    assert intervals_of_means(values, patients) == intervals_of_means(values, patients)


def test_too_little_to_tell():
    one, constant = np.array([[1.0], [2.0]]), np.full((3, 1), 0.1)
    assert np.isnan(intervals_of_means(one, ["a", "a"])[0]).all()
    assert intervals_of_means(constant, ["a", "b", "c"])[0] == pytest.approx((0.1, 0.1))
    with pytest.raises(InputError, match="one of each case"):
        intervals_of_means(one, ["a"])
