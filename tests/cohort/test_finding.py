"""Folders without a manifest: images and DICOM series, named by where they lie."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from volseg.cohort import find_cases
from volseg.errors import InputError
from volseg.io import read_image
from volseg.io.dicom import find_series


def test_images_are_named_by_their_place(tmp_path: Path, images: list[Path]) -> None:
    for place in ("top.nii.gz", "sub-01/ct.nii.gz", "sub-02/ct.nii.gz", ".hidden/ct.nii.gz"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images[0], tmp_path / "in" / place)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    out = tmp_path / "in" / "out"
    out.mkdir()
    shutil.copy(images[0], out / "left_out_seg.nii.gz")
    found = find_cases(tmp_path / "in", without=out)
    assert [case.case for case in found] == ["sub-01_ct", "sub-02_ct", "top"]
    assert [case.image for case in found][-1] == str(tmp_path / "in" / "top.nii.gz")


def test_two_places_with_one_name_are_refused(tmp_path: Path, images: list[Path]) -> None:
    for place in ("a/b_c.nii.gz", "a_b/c.nii.gz"):
        (tmp_path / "in" / place).parent.mkdir(parents=True)
        shutil.copy(images[0], tmp_path / "in" / place)
    with pytest.raises(InputError, match="'a_b_c' .* give every case its own name"):
        find_cases(tmp_path / "in")


def put(folder: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_folders_that_are_links_are_looked_into(tmp_path: Path) -> None:
    """As in a study that was put together of an archive."""
    put(tmp_path, "study/p1/ct.nii.gz", "archive/4711/ct.nii.gz")
    (tmp_path / "study" / "p2").symlink_to(tmp_path / "archive" / "4711")
    (tmp_path / "study" / "again").symlink_to(tmp_path / "study" / "p1")
    (tmp_path / "archive" / "4711" / "itself").symlink_to(tmp_path / "archive" / "4711")
    assert [case.case for case in find_cases(tmp_path / "study")] == ["p1_ct", "p2_ct"]


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patients would be missing from the table."""
    put(tmp_path, "p1/ct.nii.gz", "p2/ct.nii.gz")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path) == tmp_path / "p2":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot read .*p2: Permission denied"):
        find_cases(tmp_path)


def test_results_of_other_runs_are_no_cases(tmp_path: Path) -> None:
    put(tmp_path, "p1.nii.gz", "x_seg.nii.gz", "liver/cases/p1_seg.nii.gz", "seg/p1_preview.png")
    put(tmp_path, "liver/cases/p1_record.json", "seg/p1_record.json")
    assert [case.case for case in find_cases(tmp_path)] == ["p1", "x_seg"]


def test_series_that_were_copied_in_part_are_cases_that_fail(tmp_path: Path) -> None:
    """Pictures beside a series came with it."""
    series = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    put(tmp_path, "p1/IM0001", content=series)
    put(tmp_path, "p1/thumbnail.jpg")
    put(tmp_path, "p2/IM0001", content=series[:2000])
    (whole,) = find_series(tmp_path / "p1")
    found = [(case.case, case.series) for case in find_cases(tmp_path)]
    assert found == [("p1", whole.uid), ("p2", None)]
    with pytest.raises(InputError, match="holds no DICOM image; .*IM0001 is "):
        read_image(tmp_path / "p2")


def test_an_empty_or_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing below"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        find_cases(tmp_path / "none")


@pytest.mark.data
def test_series_are_found(data_root: Path, tmp_path: Path) -> None:
    """Two series of shared/data: each in a folder of its own, then both in one."""
    sources = [data_root / "dicom_series" / name for name in ("mr_hippocrop_a", "mr_sagittal_raw")]
    for source, place in zip(sources, ("one/mr", "two/mr"), strict=True):
        for file in source.rglob("*.dcm"):
            target = tmp_path / "in" / place / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    found = find_cases(tmp_path / "in")
    assert [case.case for case in found] == ["one_mr", "two_mr"]
    for number, file in enumerate(sorted((tmp_path / "in").rglob("*.dcm"))):
        target = tmp_path / "both" / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)
    together = find_cases(tmp_path / "both")
    assert {case.series for case in together} == {case.series for case in found}
    assert [case.case for case in together] == sorted(f"both_{case.series}" for case in found)
    # A series that lies in two places is not guessed at.
    shutil.copytree(tmp_path / "in" / "one", tmp_path / "in" / "three")
    with pytest.raises(InputError, match="lie in .* list the cases in a manifest"):
        find_cases(tmp_path / "in")


@pytest.mark.data
def test_series_without_uid_are_told_apart_by_their_folders(
    data_root: Path, tmp_path: Path
) -> None:
    for name, place in (("mr_hippocrop_a", "p1"), ("mr_sagittal_raw", "p2")):
        for file in (data_root / "dicom_series" / name).rglob("*.dcm"):
            header = pydicom.dcmread(file)
            header.SeriesInstanceUID = ""
            target = tmp_path / "in" / place / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            header.save_as(target)
    found = find_cases(tmp_path / "in")
    assert [(case.case, case.series) for case in found] == [("p1", None), ("p2", None)]
    # Of those within one another it is not known what belongs together.
    shutil.move(tmp_path / "in" / "p2", tmp_path / "in" / "p1" / "p2")
    with pytest.raises(InputError, match="files of a series without UID lie in .*p1 and in .*p2"):
        find_cases(tmp_path / "in")


def test_pictures_beside_what_is_made_of_images_are_cases(tmp_path: Path) -> None:
    """As slides with a report; pictures beside DICOM images came with those."""
    report = pydicom.Dataset()
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = report.SeriesInstanceUID = report.StudyInstanceUID = "1.2.3"
    report.Modality = "SR"
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    put(tmp_path, "a.png")
    assert [case.case for case in find_cases(tmp_path)] == ["a"]
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "IM0001")
    assert "a" not in [case.case for case in find_cases(tmp_path)]
