"""Dictionary transforms: the way of a volume through MONAI and back to its file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, Orientationd, Spacingd

from volseg.errors import GeometryError, InputError, OutputError
from volseg.io import ReadImaged, WriteSegmentationd, as_image, read_image, write_image

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1.25, 0, 7], [0, 0, 0, 1]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    values = np.arange(8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10)
    write_image(as_image(values, AFFINE), tmp_path / "case.nii.gz")
    return tmp_path / "case.nii.gz"


def test_reads_paths_and_images_alike(path: Path) -> None:
    read = ReadImaged(["image", "label"], dtype=["float32", None])({"image": path, "label": path})
    assert (read["image"].dtype, read["label"].dtype) == (torch.float32, torch.int16)
    again = ReadImaged("image")({"image": read["image"]})["image"]
    assert torch.equal(again.as_tensor(), read["image"].as_tensor())
    assert again.meta["filename_or_obj"] == str(path)
    with pytest.raises(InputError, match="float33"):
        ReadImaged("image", dtype="float33")


def test_inverted_prediction_is_written_on_the_grid_of_the_file(path: Path, tmp_path: Path) -> None:
    preprocessing = Compose(
        [
            ReadImaged("image", dtype="float32"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1.0, 1.0, 1.0)),
        ]
    )
    case = preprocessing({"image": path})
    case["pred"] = case["image"].clone()
    case = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True)(case)
    case["pred"] = (case["pred"] > 300).to(torch.uint8)
    WriteSegmentationd("pred", like="image", folder=tmp_path / "out")(case)
    written = nib.load(tmp_path / "out" / "case_seg.nii.gz")
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert written.shape == (8, 9, 10)
    assert written.get_data_dtype() == np.uint8


def test_a_prediction_off_the_grid_is_refused(path: Path, tmp_path: Path) -> None:
    image = read_image(path)
    writer = WriteSegmentationd("pred", like="image", folder=tmp_path / "out")
    moved = as_image(np.zeros((8, 9, 10)), np.eye(4))
    with pytest.raises(GeometryError, match="same grid"):
        writer({"image": image, "pred": moved})


def test_two_cases_of_one_name_do_not_share_a_file(path: Path, tmp_path: Path) -> None:
    image, labels = read_image(path), np.zeros((8, 9, 10), np.uint8)
    writer = WriteSegmentationd("pred", like="image", folder=tmp_path / "out")
    writer({"image": image, "pred": labels})
    writer({"image": image, "pred": labels})
    image.meta["filename_or_obj"] = "elsewhere/case.nii.gz"
    with pytest.raises(OutputError, match="have one name"):
        writer({"image": image, "pred": labels})


def test_images_without_a_name_do_not_share_a_file(tmp_path: Path) -> None:
    labels = np.zeros((8, 9, 10), np.uint8)
    case = {"image": as_image(labels, AFFINE), "pred": labels}
    writer = WriteSegmentationd("pred", like="image", folder=tmp_path)
    writer(case)
    with pytest.raises(OutputError, match="have one name; name their cases"):
        writer(case)
    for name in ("a", "b"):
        writer({**case, "case": name})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}_seg.nii.gz" for name in ("a", "b", "image")
    ]


def test_pictures(tmp_path: Path) -> None:
    write_image(as_image(np.zeros((6, 7), np.uint8), np.eye(3)), tmp_path / "a.png")
    case = ReadImaged("image", dtype="float32")({"image": tmp_path / "a.png"})
    case = Spacingd("image", pixdim=(2.0, 2.0))(case)
    case["pred"] = np.ones((6, 7), np.uint8)
    WriteSegmentationd("pred", like="image", folder=tmp_path)(case)
    assert read_image(tmp_path / "a_seg.png").shape == (1, 6, 7)
