"""Groups of patients against independent programs, and intervals that cover what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation import compare_groups, compare_pairs, group_mean, patient_means
from volseg.evaluation.groups import rank_test

FIRST = [3.1, 2.9, 3.4, 3.8, 2.5, 3.0, 3.3]
SECOND = [2.6, 2.4, 3.1, 2.8, 2.2, 2.9, 2.7]


def test_the_patient_is_the_unit():
    found = patient_means([1.0, 5.0, 3.0, 7.0], ["b", "a", "b", "a"])
    assert list(found.items()) == [("b", 2.0), ("a", 6.0)]
    with pytest.raises(InputError, match="finite numbers"):
        patient_means([1.0, float("nan")], ["a", "b"])
    with pytest.raises(InputError, match="2 values belong to 1"):
        patient_means([1.0, 2.0], ["a"])


def test_groups_are_compared_as_independent_programs_do():
    found = compare_groups(FIRST, SECOND)
    # pingouin 0.7.0: compute_effsize(eftype="hedges") and ttest(correction=True).
    assert found.effect_size == pytest.approx(-1.219590, abs=1e-5)
    assert found.p_mean == pytest.approx(0.032909, abs=1e-6)
    assert found.difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert found.p_rank == pytest.approx(stats.mannwhitneyu(SECOND, FIRST).pvalue)
    # Two programs and two methods: Welch's interval printed by pingouin is -0.90 to -0.05.
    assert found.interval == pytest.approx((-0.90, -0.05), abs=0.12)


def test_pairs_are_compared_by_their_differences():
    found = compare_pairs(FIRST, SECOND)
    differences = np.subtract(SECOND, FIRST)
    assert found.p_mean == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert found.p_rank == pytest.approx(stats.wilcoxon(SECOND, FIRST).pvalue)
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.interval.low < found.difference < found.interval.high
    with pytest.raises(InputError, match="no pairs"):
        compare_pairs(FIRST, SECOND[1:])


def test_too_little_is_said_to_be_too_little():
    one = group_mean([2.0])
    assert (one.patients, one.mean) == (1, 2.0)
    assert np.isnan([one.standard_deviation, *one.interval]).all()
    assert group_mean([2.0, 2.0, 2.0]).interval == (2, 2)
    lonely = compare_groups([1.0], [2.0])
    assert np.isnan([lonely.p_mean, lonely.effect_size, *lonely.interval]).all()
    same = compare_pairs([1.0, 2.0], [1.0, 2.0])
    assert (same.difference, same.interval) == (0, (0, 0))
    assert np.isnan([same.p_mean, same.p_rank, same.effect_size]).all()
    with pytest.raises(InputError, match="between 0 and 1"):
        group_mean([1.0, 2.0], level=95)


def test_differences_that_are_all_alike_are_a_difference():
    assert rank_test([1.0] * 10).p == pytest.approx(2 * 0.5**10)  # exact: one of 2^10, two sides
    assert rank_test([1.0] * 10).effect == 1
    assert math.isnan(rank_test([0.0] * 10).p)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Of skewed volumes, 25 a group; 150 groups: 0.95 within some standard errors."""
    random = np.random.default_rng(0)
    mean = np.exp(0.5**2 / 2)
    inside = 0
    for _ in range(150):
        interval = group_mean(random.lognormal(0, 0.5, 25)).interval
        inside += interval.low < mean < interval.high
    assert 0.89 < inside / 150 < 0.995
    assert group_mean(FIRST) == group_mean(FIRST)
