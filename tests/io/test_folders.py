"""What a folder stands for: image files, or DICOM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volseg.errors import InputError
from volseg.io import dicom_folders, image_files
from volseg.io.folders import files_below, holds_dicom

DICOM = bytes(128) + b"DICM"


def object_of_class(number: str) -> bytes:
    """Return how a DICOM file of a class begins."""
    uid = f"1.2.840.10008.5.1.4.1.1.{number}".encode()
    uid += bytes(len(uid) % 2)
    length = b"\x02\x00\x00\x00UL\x04\x00\x40\x00\x00\x00"
    version = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
    return DICOM + length + version + b"\x02\x00\x02\x00UI" + len(uid).to_bytes(2, "little") + uid


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


@pytest.mark.parametrize(
    ("number", "is_image"),
    [
        ("2", True),
        ("7.4", True),
        ("481.1", True),
        ("11.1", False),
        ("30", False),
        ("66.4", False),
        ("88.33", False),
        ("481.3", False),
    ],
)
def test_what_is_made_of_images_does_not_hide_image_files(
    tmp_path: Path, number: str, is_image: bool
) -> None:
    (tmp_path / "case_seg.nii.gz").touch()
    (tmp_path / "case.dcm").write_bytes(object_of_class(number))
    names = [path.name for path in image_files(tmp_path)]
    assert names == ([] if is_image else ["case_seg.nii.gz"])
    assert holds_dicom(tmp_path)


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


def test_linked_folders_are_walked_once_and_in_no_circle(tmp_path: Path) -> None:
    study, archive = tmp_path / "study", tmp_path / "archive"
    for folder in (study / "p1", archive / "4711"):
        folder.mkdir(parents=True)
        (folder / "IM0001").write_bytes(DICOM)
    for link, target in (
        (study / "again", study / "p1"),
        (study / "p2", archive / "4711"),
        (study / "out of it", tmp_path),
        (archive / "4711" / "back", study),
    ):
        link.symlink_to(target)
    assert list(files_below(study)) == [study / "p1" / "IM0001", study / "p2" / "IM0001"]
    (study / "p1" / "IM0001").unlink()
    assert holds_dicom(study, at_any_depth=True)
    (study / "p2").unlink()
    assert not holds_dicom(study, at_any_depth=True)


def test_a_folder_within_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user; root may list all of them."""
    closed, look = tmp_path / "p1" / "closed", os.scandir
    closed.mkdir(parents=True)

    def scandir(path: Any) -> Iterator[os.DirEntry[str]]:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for attempt in (
        lambda: list(files_below(tmp_path)),
        lambda: dicom_folders(tmp_path),
    ):
        with pytest.raises(InputError, match="cannot read .*closed: Permission denied"):
            attempt()
    # Nobody's images are in what the system keeps at the root of a disk.
    closed = closed.rename(tmp_path / "lost+found")
    (tmp_path / "p1" / "a.nii.gz").touch()
    assert list(files_below(tmp_path)) == [tmp_path / "p1" / "a.nii.gz"]
