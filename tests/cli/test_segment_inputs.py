"""Which cases a folder is, by what the bundle takes."""

from __future__ import annotations

import pytest

from volseg.bundle import Composition, new_bundle, open_bundle
from volseg.cli.channel_options import Channels, NamedCase
from volseg.cli.segment_inputs import find_cases


@pytest.fixture
def folder(tmp_path):
    """As nnU-Net has images of one channel."""
    images = tmp_path / "imagesTs"
    images.mkdir()
    for case in "ab":
        (images / f"{case}_0000.nii.gz").write_bytes(b"x")
    return images


@pytest.mark.parametrize(
    ("channels", "expected"), [((), ["a_0000", "b_0000"]), (("t1",), ["a", "b"])]
)
def test_one_channel_that_has_a_name_may_be_numbered(tmp_path, folder, channels, expected):
    composition = Composition("unet", "mr", ("lesion",), channels=channels)
    bundle = new_bundle(tmp_path / "lesions", composition)
    found = find_cases([str(folder)], NamedCase(None, {}), bundle, None)
    assert list(found) == expected
    first = folder / "a_0000.nii.gz"
    assert found[expected[0]] == (Channels({"t1": first}) if channels else first)


def test_links_keep_their_names(tmp_path, tiny_bundle, monkeypatch):
    """As in a data set of git-annex, or beside an archive that nobody may write to."""
    bundle = open_bundle(tiny_bundle)
    scans, series = tmp_path / "scans", tmp_path / "4711"
    for folder in (scans, series):
        folder.mkdir()
    (tmp_path / "MD5E-s9873--4f0c.nii.gz").write_bytes(b"x")
    (series / "IM0001").write_bytes(bytes(128) + b"DICM")
    image, linked = scans / "sub-01.nii.gz", tmp_path / "sub-02"
    image.symlink_to(tmp_path / "MD5E-s9873--4f0c.nii.gz")
    linked.symlink_to(series)

    def names(*inputs: object) -> list[str]:
        return list(find_cases([str(one) for one in inputs], NamedCase(None, {}), bundle, None))

    assert names(scans) == names(image) == ["sub-01"]
    assert names(linked) == ["sub-02"]
    monkeypatch.chdir(series)
    assert names(".") == ["4711"]


def test_a_study_is_one_image_also_with_its_results_in_it(tmp_path, tiny_bundle):
    bundle, study = open_bundle(tiny_bundle), tmp_path / "study"
    (study / "CT").mkdir(parents=True)
    (study / "CT" / "IM0001").write_bytes(bytes(128) + b"DICM")
    expected = {"study": study}
    assert find_cases([str(study)], NamedCase(None, {}), bundle, None) == expected
    for name in ("study_seg.nii.gz", "study_record.json"):
        (study / name).write_bytes(b"x")
    assert find_cases([str(study)], NamedCase(None, {}), bundle, None) == expected


def test_a_folder_of_results_beside_images_is_not_asked_for(tmp_path, tiny_bundle, capfd):
    bundle, scans = open_bundle(tiny_bundle), tmp_path / "scans"
    (scans / "out").mkdir(parents=True)
    for name in ("a.nii.gz", "out/a_seg.nii.gz", "out/a_record.json"):
        (scans / name).write_bytes(b"x")
    note = f"{scans / 'out'} is not looked into"
    assert list(find_cases([str(scans)], NamedCase(None, {}), bundle, None)) == ["a"]
    assert note not in capfd.readouterr().err
    for image in ("b.nii.gz", "IM0001"):  # among the results of another
        (scans / "out" / image).write_bytes(bytes(128) + b"DICM")
        assert list(find_cases([str(scans)], NamedCase(None, {}), bundle, None)) == ["a"]
        assert note in capfd.readouterr().err
        (scans / "out" / image).unlink()
