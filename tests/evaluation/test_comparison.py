"""Two sets of predictions of the same cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation import (
    METRICS,
    ClassScore,
    EmptyRule,
    Evaluation,
    compare_evaluations,
    holm,
    intervals_of_means,
)


def evaluation(values: dict[str, float], **options) -> Evaluation:
    """Return an evaluation whose metrics are all one value, by case."""
    rows = [
        ClassScore(case, "liver", 1, 10, 10, **dict.fromkeys(METRICS, value))
        for case, value in values.items()
    ]
    return Evaluation(rows, {"liver": 1}, 1.0, **options)


def drawn() -> tuple[dict[str, float], dict[str, float]]:
    random = np.random.default_rng(0)
    first = {f"case{number:02}": float(random.uniform(0.5, 1)) for number in range(20)}
    second = {case: value - float(random.normal(0.02, 0.03)) for case, value in first.items()}
    return first, second


def test_a_metric_is_compared_case_by_case():
    first, second = drawn()
    found = compare_evaluations(evaluation(first), evaluation(second), names=("a", "b"))
    dice = found.rows[0]
    differences = np.subtract(list(first.values()), list(second.values()))
    assert (dice.name, dice.metric, dice.cases, dice.patients) == ("liver", "dice", 20, 20)
    assert dice.difference == pytest.approx(differences.mean())
    assert dice.first - dice.second == pytest.approx(dice.difference)
    assert dice.p == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert (dice.better, dice.worse) == ((differences > 0).sum(), (differences < 0).sum())
    (interval,) = intervals_of_means(differences[:, np.newaxis], list(first))
    assert dice.interval == pytest.approx(interval)
    # SciPy's statistic is the smaller rank sum of 20 * 21 / 2.
    smaller = stats.wilcoxon(differences).statistic
    assert dice.rank_effect == pytest.approx(1 - 2 * smaller / 210)
    distance = next(row for row in found.rows if row.metric == "hausdorff95_mm")
    assert (distance.better, distance.worse) == (dice.worse, dice.better)
    assert distance.rank_effect == pytest.approx(-dice.rank_effect)
    assert distance.difference == pytest.approx(dice.difference)


def test_errors_are_compared_by_their_size():
    found = compare_evaluations(
        evaluation({"a": -1.0, "b": -2.0}), evaluation({"a": 3.0, "b": 1.0})
    )
    volume = next(row for row in found.rows if row.metric == "volume_error_ml")
    assert (volume.first, volume.second, volume.difference) == (1.5, 2.0, -0.5)
    assert (volume.better, volume.worse) == (1, 1)


def test_only_common_cases_count_and_others_are_named():
    first, second = drawn()
    del second["case03"]
    second["other"] = 0.5
    first["case04"] = float("nan")
    second["case05"] = float("inf")
    first["case06"] = second["case06"] = float("nan")
    found = compare_evaluations(evaluation(first), evaluation(second))
    assert (found.only_first, found.only_second) == (["case03"], ["other"])
    assert len(found.cases) == 19
    assert (found.rows[0].cases, found.rows[0].left_out) == (16, 2)
    text = " ".join(found.sentences())
    assert "Only first has 1 of the cases: case03." in text
    assert "(14 times): this favours what misses more" in text
    assert found.tests == len(METRICS)
    with pytest.raises(InputError, match="no case in common"):
        compare_evaluations(evaluation({"a": 1.0}), evaluation({"b": 1.0}))
    failed = evaluation({}, failures={"a": "the grids differ."})
    with pytest.raises(InputError, match=r"no case of second .* \(a: the grids differ"):
        compare_evaluations(evaluation({"a": 1.0}), failed)


def test_the_patient_is_the_unit_of_the_test():
    first, second = drawn()
    patients = {case: case[:-1] for case in first}
    found = compare_evaluations(evaluation(first, patients=patients), evaluation(second))
    assert (found.rows[0].cases, found.rows[0].patients) == (20, 2)
    assert found.rows[0].p == 0.5  # the least that two patients can say


def test_what_does_not_differ_has_no_p():
    first, _ = drawn()
    found = compare_evaluations(evaluation(first), evaluation(first))
    assert found.tests == 0
    assert found.rows[0].interval == (0, 0)
    assert np.isnan([found.rows[0].p, found.rows[0].p_holm, found.rows[0].rank_effect]).all()


def test_different_rules_are_not_compared():
    one = evaluation({"a": 1.0})
    for other in (
        replace(one, surface_tolerance_mm=2.0),
        replace(one, ignore=255),
        replace(one, empty=EmptyRule(neither_is_perfect=True)),
    ):
        with pytest.raises(InputError, match="different rules"):
            compare_evaluations(one, other)


def test_the_correction_of_holm():
    """The values of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, float("nan"), 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, float("nan"), 0.06, 0.02], nan_ok=True
    )
    assert holm([0.6, 0.7]) == [1, 1]
