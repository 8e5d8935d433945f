"""Intervals against SciPy's bootstrap, and what they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation import intervals_of_means
from volseg.evaluation.bootstrap import intervals_of_class_means


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


def test_the_mean_over_classes_is_drawn_with_all_classes_of_a_case():
    """SciPy draws the mean over classes of each case: the same where no class is missing."""
    random = np.random.default_rng(4)
    values = random.beta(8, 2, (30, 1, 1)) + random.normal(0, 0.02, (30, 3, 2))
    patients = [str(case) for case in range(30)]
    found = intervals_of_class_means(values, patients)
    for metric, interval in enumerate(found):
        independent = stats.bootstrap(
            (values[..., metric].mean(axis=1),),
            np.mean,
            n_resamples=9999,
            method="BCa",
            rng=np.random.default_rng(1),
        ).confidence_interval
        width = independent.high - independent.low
        assert interval == pytest.approx(tuple(independent), abs=0.04 * width)
    # Classes of one case rise and fall together: as if independent, they would look more certain.
    spread = values[..., 0].reshape(90, 1)
    (naive,) = intervals_of_means(spread, [str(case) for case in range(90)])
    assert found[0].high - found[0].low > 1.4 * (naive.high - naive.low)


def test_a_rare_class_counts_where_it_is():
    values = np.full((12, 2, 1), 0.5)
    values[:, 1] = np.nan
    values[3, 1], values[7, 1] = 0.9, 0.7
    (interval,) = intervals_of_class_means(values, [str(case) for case in range(12)])
    assert interval.low < 0.65 < interval.high  # (0.5 + 0.8) / 2
    nothing = np.full((4, 2, 1), np.nan)
    assert np.isnan(intervals_of_class_means(nothing, list("abcd"))[0]).all()
    assert np.isnan(intervals_of_class_means(values[:1], ["a"])[0]).all()
