"""Folds that never split a patient and never change."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.data import grouped_folds
from volseg.errors import InputError


@given(
    patients=st.lists(st.integers(0, 12).map(str), min_size=30, max_size=60),
    count=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_a_patient_is_in_one_fold_and_folds_are_balanced(patients, count, seed):
    groups = {f"case{index:02d}": patient for index, patient in enumerate(patients)}
    if len(set(patients)) < count:
        return
    folds = grouped_folds(groups, count=count, seed=seed)
    assert set(folds) == set(groups)
    for patient in set(patients):
        assert len({folds[case] for case in groups if groups[case] == patient}) == 1
    sizes = Counter(folds.values())
    assert set(sizes) == set(range(count))
    assert max(sizes.values()) - min(sizes.values()) <= max(Counter(patients).values())
    shuffled = dict(reversed(list(groups.items())))
    assert grouped_folds(shuffled, count=count, seed=seed) == folds


def test_the_deal_is_pinned():
    # Written down once: a change here would silently move cases between training and validation.
    groups = {f"case{index}": f"patient{index // 2}" for index in range(10)}
    assert list(grouped_folds(groups, count=5, seed=0).values()) == [0, 0, 3, 3, 4, 4, 2, 2, 1, 1]


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(InputError, match="2 patients cannot make 5 folds"):
        grouped_folds({"a": "1", "b": "1", "c": "2"}, count=5)
    with pytest.raises(InputError, match="all cases are of one patient, 7; expected at least two"):
        grouped_folds({"a": "7", "b": "7"}, count=5)


@given(
    rare=st.lists(st.booleans(), min_size=20, max_size=60),
    count=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_every_fold_gets_its_part_of_what_cases_have(rare, count, seed):
    cases = [f"case{index:02d}" for index in range(len(rare))]
    strata = {case: ["tumour"] if has else [] for case, has in zip(cases, rare, strict=True)}
    folds = grouped_folds({case: case for case in cases}, count=count, seed=seed, strata=strata)
    for having in ([case for case in cases if strata[case]], cases):
        numbers = Counter(dict.fromkeys(range(count), 0))
        numbers.update(folds[case] for case in having)
        assert max(numbers.values()) - min(numbers.values()) <= 1


def test_patients_stay_together_where_labels_are_spread():
    groups = {f"case{index}": f"patient{index // 3}" for index in range(30)}
    strata = {case: ["tumour"] if index % 6 < 2 else ["none"] for index, case in enumerate(groups)}
    folds = grouped_folds(groups, count=5, seed=1, strata=strata)
    assert all(
        len({folds[case] for case in groups if groups[case] == one}) == 1 for one in groups.values()
    )
    tumours = Counter(folds[case] for case in groups if strata[case] == ["tumour"])
    assert set(tumours.values()) == {2}
    assert set(Counter(folds.values()).values()) == {6}
