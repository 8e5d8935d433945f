"""Whom cases are of."""

from __future__ import annotations

import pytest

from volseg.errors import InputError
from volseg.evaluation import patients_by_pattern, patients_of_table, require_patients


def test_patients_by_a_table(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("case,patient,age\na1,a,50\na2,a,51\nb1,b,60\n")
    assert patients_of_table(path) == {"a1": "a", "a2": "a", "b1": "b"}
    path.write_text("case,patient\na1,a\na1,b\n")
    with pytest.raises(InputError, match="a1 to two patients"):
        patients_of_table(path)
    path.write_text("case,who\na1,a\n")
    with pytest.raises(InputError, match="no 'patient' in line 2"):
        patients_of_table(path)


def test_patients_by_a_pattern():
    assert patients_by_pattern(r"(.*)_scan\d+", ["a7_scan1", "a7_scan2"]) == {
        "a7_scan1": "a7",
        "a7_scan2": "a7",
    }
    assert patients_by_pattern(r"^[a-z]+", ["ab12"]) == {"ab12": "ab"}
    with pytest.raises(InputError, match="case b8; expected"):
        patients_by_pattern(r"(.*)_scan", ["a_scan", "b8"])
    with pytest.raises(InputError, match="no regular expression"):
        patients_by_pattern("(", ["a"])


def test_every_case_needs_a_patient():
    require_patients({"a": "1", "b": "1"}, ["a"], "the list")
    with pytest.raises(InputError, match=r"2 cases have no patient in the list \(first: b\)"):
        require_patients({"a": "1"}, ["a", "b", "c"], "the list")
