"""Cases whose channels are files of their own."""

from __future__ import annotations

import pytest

from volseg.data import list_cases, list_images, paired_cases
from volseg.errors import InputError

CHANNELS = ["t1", "flair"]


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_numbers_are_channels_in_their_order(tmp_path):
    names = ["a_0001.nii.gz", "a_0000.nii.gz", "b_2_0000.nrrd", "b_2_0001.nii.gz", ".c_0000.nii"]
    folder = touched(tmp_path, *names)
    assert list_images(folder, CHANNELS) == [
        {"case": "a", "image": {"t1": str(folder / names[1]), "flair": str(folder / names[0])}},
        {"case": "b_2", "image": {"t1": str(folder / names[2]), "flair": str(folder / names[3])}},
    ]
    # Of one channel, a number is part of the name, unless it is that of the first one throughout.
    for channels in (None, ["t1"]):
        assert list_images(folder, channels)[0]["case"] == "a_0000"


def test_the_number_of_a_single_channel_is_left_out_of_the_name(tmp_path):
    folder = touched(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz")
    assert [item["case"] for item in list_images(folder, ["ct"])] == ["a", "b"]
    assert [item["case"] for item in list_images(folder)] == ["a_0000", "b_0000"]


def test_folders_are_channels_by_their_name(tmp_path):
    folder = touched(tmp_path, "FLAIR/a.nii.gz", "T1/a.nii.gz", "t2/a.nii.gz", "notes.txt")
    (item,) = list_images(folder, CHANNELS)
    assert list(item["image"].items()) == [
        ("t1", str(folder / "T1" / "a.nii.gz")),
        ("flair", str(folder / "FLAIR" / "a.nii.gz")),
    ]


def test_files_that_hold_all_channels_stay_as_they_are(tmp_path):
    folder = touched(tmp_path, "scan_2021.nii.gz", "scan_2022.nii.gz", "t1/other.nii.gz")
    images = [item["image"] for item in list_images(folder, CHANNELS)]
    assert images == [str(folder / f"scan_{year}.nii.gz") for year in (2021, 2022)]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a_0000.nii", "a_0001.nii", "b_0000.nii"], "case b .* has the channels t1, but"),
        (["a_0000.nii", "a_0002.nii"], "has the channels t1, 0002, but t1, flair are expected"),
        (["a_0000.nii", "a_0001.nii", "b.nii"], "case b .* has the channels none"),
        (["t1/a.nii", "flair/b.nii"], "case a .* has the channels t1, but"),
    ],
)
def test_a_case_that_lacks_a_channel_is_named(tmp_path, names, sentence):
    with pytest.raises(InputError, match=sentence):
        list_images(touched(tmp_path, *names), CHANNELS)


@pytest.mark.parametrize(
    "names",
    [
        ["a_0000.nii", "a_0000.nrrd", "a_0001.nii"],
        ["t1/a.nii", "t1/a.nrrd", "flair/a.nii"],
    ],
)
def test_a_channel_that_is_there_twice_is_refused(tmp_path, names):
    with pytest.raises(InputError, match=r"\.nii and .*\.nrrd are both called a"):
        list_images(touched(tmp_path, *names), CHANNELS)


def test_files_with_all_channels_may_have_one_name(tmp_path):
    folder = touched(tmp_path, "scan_2021.nii", "scan_2021.nrrd")
    assert [item["case"] for item in list_images(folder, CHANNELS)] == ["scan_2021"] * 2


def test_cases_are_listed_with_the_files_of_their_channels(tmp_path):
    names = [f"images/{case}_{n:04}.nii" for case in "ab" for n in range(2)]
    folder = touched(tmp_path, *names, "labels/a.nii", "labels/b.nii")
    pairs = paired_cases(folder / "images", folder / "labels", CHANNELS)
    assert pairs["a"][0] == {
        name: str(folder / path) for name, path in zip(CHANNELS, names[:2], strict=True)
    }
    cases, about = list_cases(folder, channels=CHANNELS, folds=2)
    assert cases[0].image == {"t1": "images/a_0000.nii", "flair": "images/a_0001.nii"}
    assert cases[0].files == ["images/a_0000.nii", "images/a_0001.nii", "labels/a.nii"]
    (folder / names[0]).write_bytes(b"changed")
    assert list_cases(folder, channels=CHANNELS, folds=2)[1]["sha256"] != about["sha256"]
