"""Real scans: nothing stands out in good ones, and what was done to others is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg import Segmenter
from volseg.quality import QualityReport
from volseg.segmenter import segment_to_files

pytestmark = pytest.mark.data
Check = Callable[..., QualityReport]
# Of the fold that was held out when the bundle was trained.
CASES = ("hippocampus_001", "hippocampus_087", "hippocampus_195", "hippocampus_290")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("hippocampus_unet", settings={"backend": "torch"})


@pytest.fixture
def check(segmenter: Segmenter, tmp_path: Path) -> Check:
    def segmented(image: Path) -> QualityReport:
        files = {"nifti": tmp_path / "seg.nii.gz"}
        return segment_to_files(segmenter, image, files).quality

    return segmented


@pytest.mark.parametrize("case", CASES)
def test_nothing_stands_out_in_a_good_case(data_root: Path, check: Check, case: str) -> None:
    report = check(data_root / "msd_hippocampus" / "images" / f"{case}.nii.gz")
    assert report.severity in (None, "note"), report.flags
    assert {"volume", "contrast", "extent", "place"} <= set(report.checked)


def test_the_modality_of_a_dicom_series_is_compared(data_root: Path, check: Check) -> None:
    report = check(data_root / "dicom_series" / "mr_hippocrop_a" / "dicom")
    assert "modality" in report.checked
    assert "modality" not in {flag.code for flag in report.flags}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ("upside down", {"border", "volume", "place"}),
        ("slices twice as far apart", {"spacing"}),
        ("half of it", {"extent"}),
        ("a CT", {"spacing"}),
        ("negative", {"contrast", "volume", "balance", "presence"}),
    ],
)
def test_what_was_done_to_a_scan_is_seen(
    data_root: Path, tmp_path: Path, check: Check, change: str, codes: set[str]
) -> None:
    stored = nib.load(data_root / "msd_hippocampus" / "images" / f"{CASES[0]}.nii.gz")
    values, affine = np.asarray(stored.dataobj, np.float32), stored.affine.copy()
    if change == "upside down":
        values = values[:, ::-1, ::-1]
    if change == "slices twice as far apart":
        affine[:3, 2] *= 2
    if change == "half of it":
        values = values[:, : values.shape[1] // 2]
    if change == "a CT":  # its voxels have 3 mm
        stored = nib.load(data_root / "ct_organs" / "ct_small.nii.gz")
        values, affine = np.asarray(stored.dataobj[40:52, 30:46, 8:20], np.float32), stored.affine
    if change == "negative":
        values = values.max() - values
    path = tmp_path / "changed.nii.gz"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(values), affine), path)
    report = check(path)
    assert report.severity in ("warning", "alarm")
    assert codes & {flag.code for flag in report.flags}, report.flags
