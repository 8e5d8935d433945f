import re

import pytest

from volseg.errors import InputError
from volseg.evaluation import case_name, pair_common_files, pair_files


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("liver_01.nii.gz", "liver_01"),
        ("liver_01_seg.nii.gz", "liver_01"),
        ("Liver.01-Label.nii", "Liver.01"),
        ("a.seg.nrrd", "a"),
        ("a_seg_pred.mha", "a_seg"),
        ("seg.nii.gz", "seg"),
        ("bioseg.png", "bioseg"),
    ],
)
def test_the_name_of_a_case(name, case):
    assert case_name(f"folder/{name}") == case


@pytest.fixture
def folders(tmp_path):
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
    return tmp_path / "predictions", tmp_path / "references"


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_folders_are_paired_by_case(folders):
    predictions, references = folders
    touch(predictions, "b_seg.nii.gz", "a.nii.gz", "README.md", ".hidden.nii.gz")
    touch(references, "a_seg.nii.gz", "b.mha", "cases.csv")
    (references / "old").mkdir()
    pairs = pair_files(predictions, references)
    assert pairs == [
        ("a", predictions / "a.nii.gz", references / "a_seg.nii.gz"),
        ("b", predictions / "b_seg.nii.gz", references / "b.mha"),
    ]


def test_maps_beside_a_label_map_are_none(folders):
    touch(folders[0], "a_seg.nii.gz", "a_probabilities.nii.gz", "a_entropy.nii", "a_preview.png")
    touch(folders[1], "a.nii.gz")
    assert pair_files(*folders) == [("a", folders[0] / "a_seg.nii.gz", folders[1] / "a.nii.gz")]
    touch(folders[0], "b_entropy.nii")
    with pytest.raises(InputError, match=r"without a reference: \S+b_entropy.nii\)"):
        pair_files(*folders)


def test_common_files_are_paired_and_the_others_returned(folders):
    touch(folders[0], "a.nii.gz", "b.nii.gz")
    touch(folders[1], "b.nii.gz", "c.nii.gz")
    pairs, predictions, references = pair_common_files(*folders)
    assert [pair.case for pair in pairs] == ["b"]
    assert (predictions, references) == ([folders[0] / "a.nii.gz"], [folders[1] / "c.nii.gz"])


def test_two_files_are_a_pair_whatever_their_names(folders):
    touch(folders[0], "x_seg.nii.gz")
    touch(folders[1], "truth.nii.gz")
    pair = (folders[0] / "x_seg.nii.gz", folders[1] / "truth.nii.gz")
    assert pair_files(*pair) == [("x", *pair)]


def test_files_without_a_partner_are_all_named(folders):
    touch(folders[0], "a.nii.gz", "b.nii.gz", "c.nii.gz")
    touch(folders[1], "b.nii.gz", "d.nii.gz")
    with pytest.raises(InputError) as error:
        pair_files(*folders)
    message = str(error.value)
    assert re.search(r"without a reference: \S+a.nii.gz, \S+c.nii.gz;", message)
    assert re.search(r"without a prediction: \S+d.nii.gz\)", message)


def test_two_files_of_one_case_are_named(folders):
    touch(folders[0], "a.nii.gz")
    touch(folders[1], "a.nii.gz", "a_seg.nii.gz")
    with pytest.raises(InputError, match=r"a.nii.gz and \S+a_seg.nii.gz both"):
        pair_files(*folders)


def test_missing_mixed_and_empty_paths_are_named(folders):
    with pytest.raises(InputError, match="nowhere does not exist"):
        pair_files(folders[0] / "nowhere", folders[1])
    with pytest.raises(InputError, match="holds no image"):
        pair_files(*folders)
    touch(folders[0], "a.nii.gz")
    with pytest.raises(InputError, match="a file and a folder"):
        pair_files(folders[0] / "a.nii.gz", folders[1])
