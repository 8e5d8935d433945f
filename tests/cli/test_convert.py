"""``volseg convert`` and ``volseg segment --format``: files, sentences and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from volseg.cli.main import main
from volseg.io import read_image


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.mark.data
def test_results_say_nothing_of_the_patient(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    out = tmp_path / "out"
    words = (
        *("segment", series, "-o", out, "-b", "hippocampus_unet", "--backend", "torch", "--json"),
        *("--format", "nifti,dicom-seg,dicom-preview", "--preview", "--stable-uids"),
        *("--anonymize", "--key", tmp_path / "key"),
    )
    assert run(*words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["input"] == str(series)
    assert re.fullmatch("CASE-[0-9A-F]{16}", row["case"])
    endings = ("_preview.dcm", "_preview.png", "_record.json", "_seg.dcm", "_seg.nii.gz")
    assert sorted(path.name for path in out.iterdir()) == [row["case"] + end for end in endings]
    header = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)
    telling = [str(header[name].value) for name in ("PatientID", "StudyInstanceUID")]
    for path in out.iterdir():
        assert not any(text.encode() in path.read_bytes() for text in [*telling, str(series)])
    picture, seg = (pydicom.dcmread(row[name]) for name in ("dicom-preview", "dicom-seg"))
    assert picture.PatientID == seg.PatientID
    assert picture.StudyInstanceUID == seg.StudyInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in picture.SourceImageSequence}
    referred = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert uids == {item.ReferencedSOPInstanceUID for item in referred}
    with Image.open(out / f"{row['case']}_preview.png") as image:
        np.testing.assert_array_equal(picture.pixel_array, np.asarray(image.convert("RGB")))
    assert run(*words, "--skip-existing") == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "skipped"


@pytest.mark.data
def test_from_a_series_to_results_and_back(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    segment = (
        *("segment", series, "-o", tmp_path, "-b", "hippocampus_unet", "--backend", "torch"),
        *("--format", "nifti,dicom-seg,rtstruct", "--stable-uids", "--json"),
    )
    assert run(*segment) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert Path(row["output"]).name == "dicom_seg.nii.gz"
    assert Path(row["dicom-seg"]).name == "dicom_seg.dcm"
    assert Path(row["rtstruct"]).name == "dicom_rtstruct.dcm"
    assert run(*segment, "--skip-existing") == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "skipped"
    Path(row["rtstruct"]).unlink()
    assert run(*segment, "--skip-existing") == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "done"

    labels = read_image(row["output"])
    for name in ("dicom-seg", "rtstruct"):
        back = tmp_path / f"{name}.nrrd"
        assert run("convert", row[name], back, "--source", series) == 0
        shown = capsys.readouterr()
        assert shown.out.strip() == str(back)
        assert "anterior" in shown.err
        np.testing.assert_array_equal(read_image(back).numpy(), labels.numpy())
    assert run("inspect", row["dicom-seg"]) == 0
    shown = capsys.readouterr().out
    assert "format: DICOM SEG (binary)" in shown
    assert "note: segment 1: anterior" in shown
    words = ("convert", row["output"], tmp_path / "new.dcm", "--source", series, "--json")
    assert run(*words, "--to", "dicom-labelmap", "-b", "hippocampus_unet") == 0
    done = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in done["segments"]] == ["anterior", "posterior"]
    assert done["segments"][0]["type"]["value"] == "5366008"


@pytest.mark.data
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--format", "dicom"), "'dicom' is not known"),
        (("--format", "dicom-seg", "--preview"), "add nifti to --format"),
        (("--format", "dicom-seg,dicom-preview"), "add nifti to --format"),
        (("--format", "nifti,dicom-preview", "--memory", "4GB"), "holds the whole image"),
        (("--format", "dicom-probabilities", "--probabilities", "nii"), "ask for one of them"),
    ],
)
def test_wrong_formats_are_wrong_usage(
    data_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    assert run("segment", series, "-o", tmp_path / "out", "-b", "hippocampus_unet", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_conversions_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (("missing.nii", tmp_path / "a.nrrd"), "no such file"),
        (("missing.nii", tmp_path / "a.dcm"), "say what it shall be"),
        (
            ("a.nii", tmp_path / "a.dcm", "--segments", "x.json", "-b", "hippocampus_unet"),
            "give one of them",
        ),
    ):
        assert run("convert", *words) == 2
        assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
