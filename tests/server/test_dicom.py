"""DICOM series as zips, and results as DICOM: byte by byte what the command writes."""

from __future__ import annotations

import io
import re
import zipfile

import pytest

from volseg.cli.main import main

from .conftest import Running

_FORMATS = {"nifti": "", "dicom-seg": "_seg.dcm", "rtstruct": "_rtstruct.dcm", "sr": "_sr.dcm"}


def packed(folder) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
        archive.writestr("../../README.txt", "not DICOM")
    return content.getvalue()


@pytest.mark.data
def test_a_zipped_series_gives_what_the_command_gives(server: Running, data_root, tmp_path):
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("segment", str(series), "-o", str(tmp_path), "--bundle", "hippocampus_unet"),
                *("--format", ",".join(_FORMATS), "--stable-uids"),
            ]
        )
    upload = tmp_path / "upload.zip"
    upload.write_bytes(packed(series))
    job = server.submit(upload, "hippocampus_unet", formats=list(_FORMATS), stable_uids=True)
    for name, ending in _FORMATS.items():
        expected = tmp_path / f"dicom{ending or '_seg.nii.gz'}"
        assert server.result(job, format=name) == expected.read_bytes(), name
    missing = server.client.get(f"/v1/jobs/{job}/result", params={"format": "dicom-labelmap"})
    assert missing.status_code == 404


@pytest.mark.data
def test_a_zip_of_several_series_is_segmented_once_one_is_chosen(server, data_root, tmp_path):
    folder = data_root / "dicom_series"
    both = io.BytesIO()
    with zipfile.ZipFile(both, "w") as archive:
        for case in ("mr_hippocrop_a", "mr_sagittal_raw"):
            for path in sorted((folder / case / "dicom").iterdir()):
                archive.write(path, f"{case}/{path.name}")
    upload = tmp_path / "both.zip"
    upload.write_bytes(both.getvalue())
    status = server.ended(server.submit(upload, "hippocampus_unet"))
    assert status["state"] == "failed"
    assert "2 DICOM series" in status["error"]
    assert status["error"].startswith("cannot read input/image0")  # nothing of where it lies
    uid = re.search(r"32 slices \(([\d.]+)\)", status["error"])[1]
    job = server.submit(upload, "hippocampus_unet", series=uid)
    alone = tmp_path / "alone.zip"
    alone.write_bytes(packed(folder / "mr_hippocrop_a" / "dicom"))
    assert server.result(job) == server.result(server.submit(alone, "hippocampus_unet"))


def test_results_as_dicom_need_dicom(server, image):
    status = server.ended(server.submit(image, formats=["dicom-seg"]))
    assert status["state"] == "failed"
    assert "ask for the format nifti" in status["error"]
