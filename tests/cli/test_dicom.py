"""DICOM folders on the command line: inspected, chosen, segmented on their own, tilted grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg.cli.main import main
from volseg.io import grid_of, read_image
from volseg.io.dicom import find_series


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capfd.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture
def study(data_root: Path, tmp_path: Path) -> Path:
    """A folder of a tilted, an uneven and a plain series, and a note."""
    folder = tmp_path / "study"
    for case in ("bad_gantry_tilt", "bad_slice_increment", "mr_sagittal_raw"):
        shutil.copytree(data_root / "dicom_series" / case / "dicom", folder / case)
    (folder / "notes.txt").write_text("hello")
    return folder


@pytest.mark.data
def test_inspect_lists_series_with_verdicts(capfd, study: Path) -> None:
    code, text, _ = run(capfd, "inspect", study, "--json")
    assert code == 0
    folder = json.loads(text)
    verdicts = {series["uid"]: series["verdict"] for series in folder["series"]}
    assert sorted(verdicts.values()) == ["after a choice", "readable", "readable"]
    assert [Path(file["path"]).name for file in folder["unused"]] == ["notes.txt"]
    code, text, _ = run(capfd, "inspect", study)
    assert code == 0
    for uid in verdicts:
        assert uid in text
    for words in (
        "READABLE  CT",
        "4 slices of 128 x 128, 1.672 x 1.672 x 5 mm, axes LPS, tilted by 14.0 degrees",
        "AFTER A CHOICE",
        "gaps of 5 to 10 mm",
        "--irregular resample",
        "not used, not a DICOM file",
        "3 series: 2 readable, 1 after a choice",
    ):
        assert words in text


@pytest.mark.data
def test_inspect_shows_what_is_no_image(capfd, data_root: Path) -> None:
    code, text, _ = run(capfd, "inspect", data_root / "dicom_seg")
    assert code == 0
    for words in (
        "-  segmentation (DICOM SEG) Segmentation 24x38x3",
        "   first segment, second segment",
        "   refers to the series 1.2.826.0.1.3680043.2.1125.1.98816428833471028692419025707005691",
    ):
        assert words[:60] in text
    assert "is a segmentation" not in text


@pytest.mark.data
def test_a_picture_beside_slices_does_not_make_a_folder_of_pictures(
    capfd, study: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    folder = study / "mr_sagittal_raw"
    (folder / "screenshot.png").write_bytes(b"no matter")
    words = ("segment", folder, "-o", tmp_path / "out", "-b", tiny_bundle)
    assert run(capfd, *words)[0] == 0
    assert (tmp_path / "out" / "mr_sagittal_raw_seg.nii.gz").is_file()


@pytest.mark.data
def test_segment_wants_one_series_and_keeps_its_tilt(
    capfd, study: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    out = tmp_path / "out"
    code, _, errors = run(capfd, "segment", study, "-o", out, "-b", tiny_bundle)
    assert code == 2
    assert "3 DICOM series" in errors
    tilted = find_series(study / "bad_gantry_tilt")[0].uid
    words = ("segment", study, "-o", out, "-b", tiny_bundle, "--series", tilted)
    assert run(capfd, *words)[0] == 0
    image = read_image(study, series=tilted)
    labels = nib.load(out / "study_seg.nii.gz")
    assert labels.shape == (128, 128, 4)
    np.testing.assert_allclose(labels.affine, image.affine.numpy(), atol=1e-4)
    assert not grid_of(image).affine.is_orthogonal()
    upright = tmp_path / "upright"
    words = ("segment", study, "-o", upright, "-b", tiny_bundle, "--series", tilted, "--preview")
    assert run(capfd, *words, "--orthogonal")[0] == 0
    straight = read_image(study, series=tilted, orthogonal=True)
    labels = nib.load(upright / "study_seg.nii.gz")
    np.testing.assert_allclose(labels.affine, straight.affine.numpy(), atol=1e-4)
    assert (upright / "study_preview.png").is_file()


@pytest.mark.data
def test_options_of_dicom_are_refused_for_other_images(
    capfd, tmp_path: Path, tiny_bundle: Path
) -> None:
    image = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    words = ("segment", image, "-o", tmp_path / "out", "-b", tiny_bundle, "--series", "1.2")
    code, _, errors = run(capfd, *words)
    assert code == 2
    assert "with series: the image is no DICOM series" in errors
