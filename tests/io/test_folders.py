"""What a folder stands for: image files, or DICOM."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.errors import InputError
from volseg.io import dicom_folders, image_files
from volseg.io.folders import holds_dicom

DICOM = bytes(128) + b"DICM"


def test_pictures_beside_dicom_files_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.nii.gz").touch()
    (tmp_path / "pair.img").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "notes.txt").write_text("hello")
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.nii.gz"]
    assert not holds_dicom(tmp_path)
    (tmp_path / "IM0001").write_bytes(DICOM)
    assert image_files(tmp_path) == []
    assert dicom_folders(tmp_path) == [tmp_path]


def test_folders_of_series_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b/deep/er", "a", "empty", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("b/deep/er/1", "a/slice.dcm", ".hidden/1"):
        (tmp_path / name).write_bytes(DICOM)
    assert [path.name for path in dicom_folders(tmp_path)] == ["a", "b"]


def test_a_folder_given_as_a_dot_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "IM0001").write_bytes(DICOM)
    monkeypatch.chdir(tmp_path)
    assert dicom_folders(".") == [tmp_path]


def test_a_folder_given_as_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "IM0001").write_bytes(DICOM)
    (tmp_path / "patient").symlink_to(tmp_path / "4711")
    assert dicom_folders(tmp_path / "patient") == [tmp_path / "patient"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        image_files(tmp_path / "absent")
