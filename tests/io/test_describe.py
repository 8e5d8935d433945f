"""Descriptions: JSON, and remarks on what is odd."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from volseg.io import as_image, describe_image, write_image


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("minimal_bigendian_nocodes.nii.gz", "states no orientation"),
        ("minimal_bigendian_nocodes.nii.gz", "byte order"),
        ("fmri_oblique.nii.gz", "oblique by 6"),
        ("int16_4d_20vols.nii", "stored with 4 axes"),
        ("uint8_anisotropic.nii.gz", "anisotropic: voxels are 3.0 times"),
        ("nrrd/breast1_label.nrrd", "looks like a label map with 2 values"),
        ("float64_2d_extended_header.nii", "constant"),
    ],
)
def test_remarks_on_real_files(data_root: Path, name: str, remark: str) -> None:
    description = describe_image(data_root / "nifti_odd" / name)
    assert any(remark in text for text in description.remarks), description.remarks
    assert json.loads(json.dumps(dataclasses.asdict(description), allow_nan=False))["path"]


@pytest.mark.data
def test_real_images_and_labels_are_told_apart(data_root: Path) -> None:
    organs = data_root / "ct_organs"
    assert describe_image(organs / "ct_small_seg.nii.gz").looks_like_labels
    assert not describe_image(organs / "ct_small.nii.gz").looks_like_labels


def test_numbers(tmp_path: Path) -> None:
    values = np.linspace(-5, 5, 24, dtype=np.float32).reshape(2, 3, 4)
    values[0, 0, :2] = [np.nan, np.inf]
    affine = np.diag([1.0, 2, 3, 1])
    affine[0, 3], affine[0, 1] = 5000, 0.2
    write_image(as_image(values, affine), tmp_path / "a.nii")
    found = describe_image(tmp_path / "a.nii")
    finite = values[np.isfinite(values)]
    assert (found.format, found.stored_type) == ("NIfTI-1", "float32")
    assert (found.shape, found.channels, found.orientation) == ([2, 3, 4], 1, "RAS")
    assert found.minimum == finite.min()
    assert found.maximum == finite.max()
    assert found.mean == pytest.approx(finite.mean())
    assert found.non_finite_share == pytest.approx(2 / 24)
    assert found.distinct_values == 22
    assert found.extent_mm == pytest.approx([2, 3 * np.hypot(2, 0.2), 12])
    text = " | ".join(found.remarks)
    for word in ("not finite", "sheared by 5.7", "from the origin", "anisotropic"):
        assert word in text


def test_nothing_finite(tmp_path: Path) -> None:
    write_image(as_image(np.full((2, 2, 2), np.nan), np.eye(4)), tmp_path / "a.nii")
    found = describe_image(tmp_path / "a.nii")
    assert found.minimum is found.maximum is found.mean is None
    assert found.non_finite_share == 1
