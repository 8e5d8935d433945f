"""What data sets say of themselves: ours, the Decathlon's, nnU-Net's."""

from __future__ import annotations

import json

import pytest

from volseg.data import Case, write_datalist
from volseg.errors import InputError
from volseg.planning import open_dataset


def describe(folder, *, encoding="utf-8", **content):
    (folder / "dataset.json").write_text(json.dumps(content), encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # Windows writes a mark
@pytest.mark.parametrize(
    "content",
    [
        {"labels": {"0": "background", "1": "liver", "2": "tumour"}, "modality": {"0": "CT"}},
        {"labels": {"background": 0, "liver": 1, "tumour": 2}, "channel_names": {"0": "CT"}},
    ],
    ids=["decathlon", "nnunet"],
)
def test_a_folder_says_what_labels_and_channels_are_called(data, content, encoding):
    (data / "images").rename(data / "imagesTr")
    (data / "labels").rename(data / "labelsTr")
    describe(data, encoding=encoding, **content)
    found = open_dataset(data)
    assert found.scheme.labels == {"liver": 1, "tumour": 2}
    assert (found.channels, found.modality) == (("CT",), "CT")
    cases, about = found.dealt({f"case{number}": {1: 30.0 + number} for number in (0, 1, 2, 4, 5)})
    assert [case.case for case in cases] == ["case0", "case1", "case2", "case4", "case5"]
    assert {case.fold for case in cases} == {*range(5)}
    assert "sha256" in about


@pytest.mark.parametrize(
    ("names", "modality"),
    [(["T1w", "FLAIR"], "MR"), (["CT", "PET"], ""), (["ct", "CT"], "CT"), ([], "")],
)
def test_the_modality_is_known_where_all_channels_agree(data, names, modality):
    describe(data, channel_names={str(place): name for place, name in enumerate(names)})
    assert open_dataset(data).modality == modality


def test_a_datalist_keeps_its_patients_and_folds(data):
    cases = [
        Case(f"case{i}", f"images/case{i}.nii.gz", f"labels/case{i}.nii.gz", f"p{i // 2}", i // 2)
        for i in range(6)
    ]
    write_datalist(cases, data / "list.json", about={"labels": {"1": "ball"}, "seed": 3})
    found = open_dataset(data / "list.json")
    assert found.folder == data
    assert (found.scheme.labels, found.folds) == ({"ball": 1}, 3)
    assert found.dealt({"case3": {1: 4.0}}) == ([cases[3]], {"labels": {"1": "ball"}, "seed": 3})


def test_what_is_no_data_set_is_said(tmp_path):
    with pytest.raises(InputError, match="no data set"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(InputError, match="imagesTr and labelsTr"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        open_dataset(tmp_path)
