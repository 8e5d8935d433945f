"""Cases are prepared once, found again, and prepared anew when they are not what they were."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandGaussianNoised, ScaleIntensityd

from volseg.data import Draw, PreparedCases, PreparedDraws
from volseg.data import prepared as prepared_module
from volseg.errors import InputError, OutputError
from volseg.io import ReadImaged, write_image
from volseg.transforms import RandSpatiald
from volseg.transforms.patch_position import voxel_of_a_class


class Counted(ScaleIntensityd):
    """Counts how often it is called."""

    calls = 0

    def __call__(self, data):
        Counted.calls += 1
        return super().__call__(data)


@pytest.fixture
def case(tmp_path) -> dict[str, str]:
    """Image and label of 20 voxels a side; class 2 is one voxel."""
    rng = np.random.default_rng(0)
    label = np.zeros((1, 20, 20, 20), np.uint8)
    label[0, 4:9, 5:9, 6:9] = 1
    label[0, 17, 3, 12] = 2
    affine = torch.diag(torch.tensor([2.0, 1.0, 1.5, 1.0], dtype=torch.float64))
    for name, values in {"image": rng.random((1, 20, 20, 20), np.float32), "label": label}.items():
        write_image(
            MetaTensor(torch.from_numpy(values), affine=affine), tmp_path / f"{name}.nii.gz"
        )
    return {
        "image": str(tmp_path / "image.nii.gz"),
        "label": str(tmp_path / "label.nii.gz"),
        "case": "anna",
    }


def steps(factor: float = 0.0):
    return [ReadImaged(["image", "label"]), Counted("image", factor=factor, minv=None, maxv=None)]


def files_of(prepared: PreparedCases, name: str) -> list[Path]:
    return sorted(prepared.folder.rglob(name))


def test_a_case_is_prepared_once_for_all_that_follow(case, tmp_path):
    Counted.calls = 0
    first = PreparedCases(steps(), tmp_path / "prepared")
    _, taken = first.make(case)
    expected = ReadImaged(["image", "label"])(dict(case))
    for prepared in (first, PreparedCases(steps(), tmp_path / "prepared")):
        found = prepared.read(case)
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(found["image"].affine, expected["image"].affine)
        assert found["label"].dtype == expected["label"].dtype
        assert found["case"] == "anna"
    assert Counted.calls == 1
    on_disk = sum(path.stat().st_size for path in files_of(first, "*.npy"))
    assert taken == on_disk > expected["image"].numel() * 4


def test_another_preparation_or_another_file_is_prepared_anew(case, tmp_path):
    folder = tmp_path / "prepared"
    before = PreparedCases(steps(), folder).read(case)["image"].clone()
    other = PreparedCases(steps(factor=1.0), folder).read(case)["image"]
    assert torch.allclose(other, 2 * before)
    image = ReadImaged("image")(dict(case))["image"]
    write_image(image + 1, case["image"])
    assert torch.allclose(PreparedCases(steps(), folder).read(case)["image"], before + 1)


def test_voxels_that_change_beside_their_header_are_prepared_anew(case, tmp_path):
    header, voxels = tmp_path / "image.mhd", tmp_path / "image.raw"
    sitk.WriteImage(sitk.ReadImage(case["image"]), str(header))
    case["image"] = str(header)
    before = PreparedCases(steps(), tmp_path / "prepared").read(case)["image"].clone()
    (np.fromfile(voxels, np.float32) + 1).tofile(voxels)
    os.utime(voxels, (1e9, 1e9))
    after = PreparedCases(steps(), tmp_path / "prepared").read(case)["image"]
    assert torch.allclose(after, before + 1)


def test_a_folder_called_like_a_case_is_no_part_of_it(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = PreparedCases(steps(), tmp_path / "prepared")
    place, _ = prepared.make(case)
    (tmp_path / case["case"]).mkdir()
    assert prepared.make(case)[0] == place


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_what_is_damaged_is_prepared_anew(case, tmp_path, damage):
    folder = tmp_path / "prepared"
    before = PreparedCases(steps(), folder).read(case)["image"].clone()
    prepared = PreparedCases(steps(), folder)
    [path] = files_of(prepared, "image.npy")
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(prepared.read(case)["image"], before)


def test_what_is_damaged_and_cannot_be_removed_is_not_trained_on(case, tmp_path, monkeypatch):
    """As another user's, in a folder that both write to; root may remove it."""
    prepared = PreparedCases(steps(), tmp_path / "prepared")
    prepared.make(case)
    [path] = files_of(prepared, "image.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr(prepared_module.shutil, "rmtree", lambda *_arguments, **_options: None)
    with pytest.raises(OutputError, match="is damaged and cannot be replaced: remove it"):
        PreparedCases(steps(), tmp_path / "prepared").make(case)


def test_a_folder_that_cannot_be_written_is_replaced_by_a_temporary_one(
    case, tmp_path, monkeypatch, caplog
):
    (tmp_path / "prepared").write_text("a file")
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert PreparedCases(steps()).read(case)["image"].shape == (1, 20, 20, 20)
    assert "a temporary folder is used" in caplog.text


def test_where_the_disk_is_full_in_the_middle_what_is_prepared_stays(tmp_path, monkeypatch, caplog):
    Counted.calls = 0
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "cache"))
    write, written = prepared_module._write, []

    def write_one(made, place):
        if written and place.is_relative_to(tmp_path / "cache"):
            raise OutputError("no space is left.")
        written.append(place)
        write(made, place)

    monkeypatch.setattr(prepared_module, "_write", write_one)
    cases = [{"image": torch.full((1, 4, 4), float(value))} for value in range(4)]
    dataset = PreparedDraws(cases, Compose(steps()[1:]))
    found = [dataset[Draw(index, 0)]["image"] for index in range(4)]
    assert all(torch.equal(one, case["image"]) for one, case in zip(found, cases, strict=True))
    assert Counted.calls == 4
    assert [one.is_relative_to(tmp_path / "cache") for one in written] == [True, *[False] * 3]
    assert caplog.text.count("a temporary folder is used: no space is left") == 1
    assert "damaged" not in caplog.text


def test_files_are_read_through_once_as_a_run_begins(case, tmp_path, monkeypatch):
    PreparedCases(steps(), tmp_path / "prepared").make(case)
    check_sum, read = prepared_module._check_sum, []
    monkeypatch.setattr(
        prepared_module, "_check_sum", lambda one: read.append(one) or check_sum(one)
    )
    dataset = PreparedDraws([case], Compose(steps()), folder=tmp_path / "prepared")
    for seed in (1, 2):
        dataset[Draw(0, seed)]
    assert len(read) == len(files_of(dataset.prepared, "*.npy"))


def test_a_case_that_cannot_be_prepared_is_named(case, tmp_path):
    Path(case["label"]).write_bytes(b"nothing")
    with pytest.raises(InputError, match="the case anna cannot be prepared: "):
        PreparedCases(steps(), tmp_path / "prepared").make(case)


def test_patches_around_classes_are_the_same_whether_the_volume_is_searched_or_not(case, tmp_path):
    prepared = PreparedCases(steps(), tmp_path / "prepared").read(case)
    voxels = prepared["label_voxels"]
    assert list(voxels) == [1, 2]
    labels = torch.as_tensor(prepared["label"][0])
    for seed in range(20):
        draws = [
            voxel_of_a_class(labels, (0, 1, 1), np.random.RandomState(seed), known)
            for known in (None, voxels)
        ]
        assert draws[0] == draws[1]


def test_draws_start_from_prepared_cases_and_leave_them_as_they_are(case, tmp_path):
    Counted.calls = 0
    dataset = PreparedDraws(
        [case],
        Compose(
            [
                *steps(),
                RandSpatiald(
                    ["image", "label"],
                    patch_size=8,
                    position="classes",
                    label_key="label",
                    classes=3,
                    mode=["linear", "nearest"],
                ),
                RandGaussianNoised("image", prob=1.0),
            ]
        ),
        folder=tmp_path / "prepared",
    )
    before = [path.read_bytes() for path in files_of(dataset.prepared, "*.npy")]
    one, other, again = (dataset[Draw(0, seed)] for seed in (1, 2, 1))
    assert torch.equal(one["image"], again["image"])
    assert not torch.equal(one["image"], other["image"])
    assert set(one) == {"image", "label", "case"}
    assert [path.read_bytes() for path in files_of(dataset.prepared, "*.npy")] == before
    assert Counted.calls == 1
