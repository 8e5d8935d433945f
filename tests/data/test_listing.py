"""Cases of a folder: pairs, patients, folds."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.data import label_strata, list_cases
from volseg.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for kind in ("pictures", "truth"):
        (tmp_path / kind).mkdir()
        for index in range(12):
            (tmp_path / kind / f"slice{index}.png").write_bytes(f"{kind}{index}".encode())
    return tmp_path


def listed(folder, **options):
    return list_cases(folder, images="pictures", labels="truth", **options)


def test_every_case_is_a_patient_unless_a_table_says_otherwise(folder):
    cases, about = listed(folder, folds=3)
    assert [case.case for case in cases][:3] == ["slice0", "slice1", "slice2"]  # 2 before 10
    assert {case.patient for case in cases} == {case.case for case in cases}
    assert "no patient identifiers" in about["patients"]
    table = folder / "patients.csv"
    rows = "\n".join(f"slice{index},p{index // 4}" for index in range(12))
    table.write_text(f"case,patient\n{rows}\n")
    cases, about = listed(folder, folds=3, patients=table)
    for patient in ("p0", "p1", "p2"):
        assert len({case.fold for case in cases if case.patient == patient}) == 1
    assert about["patients"] == "patients.csv"
    table.write_text("case,patient\nslice0,p0\n")
    with pytest.raises(InputError, match="11 cases"):
        listed(folder, patients=table)
    table.write_text("name,patient\nslice0,p0\n")
    with pytest.raises(InputError, match="columns case and patient"):
        listed(folder, patients=table)


def test_spaces_in_a_table_make_no_other_patient(folder):
    table = folder / "patients.csv"
    rows = "\n".join(f" slice{index}, p{index // 4}{' ' * (index % 2)}" for index in range(12))
    table.write_text(f"case, patient \n{rows}\n")
    cases, _ = listed(folder, folds=3, patients=table)
    assert {case.patient for case in cases} == {"p0", "p1", "p2"}


def test_a_case_of_two_patients_is_refused(folder):
    table = folder / "patients.csv"
    rows = "\n".join(f"slice{index},p{index}" for index in range(12))
    table.write_text(f"case,patient\n{rows}\nslice0,p0\n")
    assert len(listed(folder, patients=table)[0]) == 12
    table.write_text(f"case,patient\n{rows}\nslice0,p1\n")
    with pytest.raises(InputError, match="two rows of the case slice0, with the patient .p0. and"):
        listed(folder, patients=table)


def test_blocks_keep_neighbours_together(folder):
    cases, about = listed(folder, folds=4, blocks=True)
    assert [case.fold for case in cases] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert "neighbours" in about["folds"]
    with pytest.raises(InputError, match="12 cases cannot make 13 blocks"):
        listed(folder, folds=13, blocks=True)


def test_blocks_split_no_patient_and_have_no_strata(folder):
    table = folder / "patients.csv"

    def in_blocks(cases_of_a_patient):
        rows = "\n".join(f"slice{index},p{index // cases_of_a_patient}" for index in range(12))
        table.write_text(f"case,patient\n{rows}\n")
        return listed(folder, folds=4, blocks=True, patients=table)[0]

    assert [case.fold for case in in_blocks(3)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    with pytest.raises(InputError, match="would split the patient p0 between folds"):
        in_blocks(5)
    with pytest.raises(InputError, match="cannot be stratified by labels"):
        listed(folder, folds=4, blocks=True, stratify="labels")


def test_a_selection_must_exist(folder):
    cases, about = listed(folder, only=["slice3", "slice1"], folds=2)
    assert [case.case for case in cases] == ["slice1", "slice3"]
    assert about["sha256"] != listed(folder, folds=2)[1]["sha256"]
    with pytest.raises(InputError, match="slice99"):
        listed(folder, only=["slice99"])


def test_folds_get_their_part_of_every_label_or_of_a_column(folder):
    from PIL import Image

    for index in range(12):
        label = np.zeros((8, 8), np.uint8)
        label[:2] = 1
        if index % 4 == 0:  # three of the twelve
            label[4 : 5 + index // 4] = 2
        Image.fromarray(label).save(folder / "truth" / f"slice{index}.png")
    cases, about = listed(folder, folds=3, stratify="labels")
    having = [case.fold for case in cases if int(case.case[5:]) % 4 == 0]
    assert sorted(having) == [0, 1, 2]
    assert about["folds"].endswith("by labels")
    assert cases == listed(folder, folds=3, stratify="labels")[0]
    table = folder / "patients.csv"
    rows = "\n".join(f"slice{index},p{index},{'AB'[index // 9]}" for index in range(12))
    table.write_text(f"case,patient,site\n{rows}\n")
    cases, about = listed(folder, folds=3, patients=table, stratify="site")
    assert sorted(case.fold for case in cases if int(case.case[5:]) >= 9) == [0, 1, 2]
    assert about["folds"].endswith("by site")
    with pytest.raises(InputError, match="columns case and scanner"):
        listed(folder, patients=table, stratify="scanner")
    with pytest.raises(InputError, match="the list of patients is needed"):
        listed(folder, stratify="site")


def test_a_label_map_without_numbers_is_named(folder):
    from PIL import Image

    for path in (folder / "truth").iterdir():
        Image.fromarray(np.ones((8, 8), np.uint8)).save(path)
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / "truth" / "slice3.tif")
    (folder / "truth" / "slice3.png").unlink()
    with pytest.raises(InputError, match=r"slice3\.tif holds values that are NaN"):
        listed(folder, folds=3, stratify="labels")


def test_cases_are_cut_into_thirds_by_how_much_they_have_of_a_label():
    sizes = {f"case{index}": {1: 10 * index} for index in range(1, 7)} | {"empty": {}}
    strata = label_strata(sizes)
    assert strata["empty"] == []
    assert [strata[f"case{index}"][1] for index in range(1, 7)] == [
        *["little of 1"] * 2,
        *["some of 1"] * 2,
        *["much of 1"] * 2,
    ]
    objects = {f"case{index}": dict.fromkeys(range(1, 60 * index), 1) for index in (1, 2)}
    assert label_strata(objects) == {"case1": ["1", "little of 1"], "case2": ["1", "some of 1"]}
