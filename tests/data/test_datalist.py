"""Lists of cases on the disk."""

from __future__ import annotations

import json
import os

import pytest

from volseg.data import (
    Case,
    file_stamps,
    fingerprint,
    fold_cases,
    hash_files,
    list_cases,
    list_images,
    paired_cases,
    read_datalist,
    write_datalist,
)
from volseg.errors import InputError

CASES = [
    Case("a", "images/a.nii.gz", "labels/a.nii.gz", "p1", 0),
    Case("b", "images/b.nii.gz", "labels/b.nii.gz", "p2", 1),
]


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for case in ("a", "b"):
            (tmp_path / kind / f"{case}.nii.gz").write_bytes(f"{kind}{case}".encode())
    (tmp_path / "images" / ".hidden.nii.gz").touch()
    (tmp_path / "images" / "notes.txt").touch()
    return tmp_path


def test_a_datalist_survives_a_file_and_is_json(folder):
    path = folder / "datalist.json"
    write_datalist(CASES, path, about={"name": "test", "seed": 0})
    assert read_datalist(path) == CASES
    content = json.loads(path.read_text())
    assert content["name"] == "test"
    assert content["training"][1]["patient"] == "p2"
    path.write_text(path.read_text(), encoding="utf-8-sig")  # as Windows writes it
    assert read_datalist(path) == CASES


def test_folds_are_taken_apart(folder):
    path = folder / "datalist.json"
    write_datalist(CASES, path, about={"name": "test"})
    (held_out,) = fold_cases(path, folder, fold=1, held_out=True)
    (rest,) = fold_cases(path, folder, fold=1, held_out=False)
    assert held_out["case"] == "b"
    assert rest == {
        "image": str(folder / "images" / "a.nii.gz"),
        "label": str(folder / "labels" / "a.nii.gz"),
        "case": "a",
    }
    with pytest.raises(InputError, match="fold 7"):
        fold_cases(path, folder, fold=7, held_out=True)
    (folder / "labels" / "a.nii.gz").unlink()
    with pytest.raises(InputError, match="case a .* does not exist"):
        fold_cases(path, folder, fold=1, held_out=False)


def test_images_are_listed_without_hidden_and_other_files(folder):
    assert [item["case"] for item in list_images(folder / "images")] == ["a", "b"]
    with pytest.raises(InputError, match="no folder"):
        list_images(folder / "absent")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        list_images(folder / "empty")


def test_folders_of_dicom_files_are_cases(tmp_path):
    for case in ("b", "a"):
        (tmp_path / "images" / case / "series").mkdir(parents=True)
        (tmp_path / "images" / case / "series" / "1").write_bytes(bytes(128) + b"DICM")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{case}.nii.gz").touch()
    images = tmp_path / "images"
    assert list_images(images) == [
        {"image": str(images / case), "case": case} for case in ("a", "b")
    ]
    assert list_images(images / "a" / "series") == [
        {"image": str(images / "a" / "series"), "case": "series"}
    ]
    cases, about = list_cases(tmp_path, folds=2)
    assert [case.image for case in cases] == ["images/a", "images/b"]
    write_datalist(cases, tmp_path / "list.json", about=about)
    (case,) = fold_cases(tmp_path / "list.json", tmp_path, fold=0, held_out=True)
    assert case["image"] == str(images / case["case"])


def test_a_case_without_its_label_is_named(folder):
    assert set(paired_cases(folder / "images", folder / "labels")) == {"a", "b"}
    (folder / "labels" / "b.nii.gz").unlink()
    with pytest.raises(InputError, match="first: b"):
        paired_cases(folder / "images", folder / "labels")


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_two_files_of_one_name_are_refused(folder, kind):
    (folder / kind / "a.nrrd").touch()
    with pytest.raises(InputError, match=r"a\.nii\.gz and .*a\.nrrd are both called a"):
        paired_cases(folder / "images", folder / "labels")


FOLD_AS_TEXT = (
    b'{"training": [{"case": "a", "image": "a", "label": "b", "patient": "p", "fold": "0"}]}'
)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}",
        b'{"training": [{"case": "a"}]}',
        b"[]",
        FOLD_AS_TEXT,
        '{"training": [], "name": "Müller"}'.encode("latin-1"),
    ],
)
def test_what_is_not_a_datalist_is_refused_with_a_sentence(tmp_path, content):
    path = tmp_path / "datalist.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a datalist"):
        read_datalist(path)
    with pytest.raises(InputError, match="not a datalist"):
        read_datalist(tmp_path)
    with pytest.raises(InputError, match="there is no datalist"):
        read_datalist(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Case("a", "images/b.nii.gz", "labels/b.nii.gz", "p2", 1), "has two cases called a"),
        (
            Case("c", "images/c.nii.gz", "labels/c.nii.gz", "p2", 0),
            r"patient p2 of .* is in fold 1 \(b\) and in fold 0 \(c\)",
        ),
    ],
)
def test_cases_that_would_be_taken_for_each_other_are_refused(tmp_path, other, message):
    write_datalist([*CASES, other], tmp_path / "list.json", about={})
    with pytest.raises(InputError, match=message):
        read_datalist(tmp_path / "list.json")


def test_a_file_is_read_again_only_where_its_stamps_say_so(folder, monkeypatch):
    files = [folder / "images" / f"{case}.nii.gz" for case in "ab"]
    for file in files:
        os.utime(file, (1e9, 1e9))
    read = []
    real = fingerprint._read
    monkeypatch.setattr(fingerprint, "_read", lambda file: read.append(file.name) or real(file))
    before = hash_files(files)
    assert hash_files(files) == before
    assert read == ["a.nii.gz", "b.nii.gz"]
    files[0].write_bytes(b"changed")  # too young to be known by its stamps
    changed = hash_files(files)
    assert changed != before
    files[0].write_bytes(b"another")
    assert hash_files(files) not in (before, changed)


def test_the_hash_depends_on_names_and_contents_only(folder):
    files = [folder / "images" / f"{case}.nii.gz" for case in "ab"]
    before = hash_files(files)
    assert hash_files(reversed(files)) == before
    assert hash_files([folder / "images"]) != before  # with the hidden file and the notes
    for name in (".hidden.nii.gz", "notes.txt"):
        (folder / "images" / name).unlink()
    assert hash_files([folder / "images"]) == before
    files[0].write_bytes(b"changed")
    assert hash_files(files) != before


def test_voxels_beside_a_header_belong_to_its_hash(tmp_path):
    (tmp_path / "a.nhdr").write_text("NRRD0005\ntype: uchar\ndata file: voxels.raw\n")
    (tmp_path / "voxels.raw").write_bytes(b"before")
    before = hash_files([tmp_path / "a.nhdr"])
    (tmp_path / "voxels.raw").write_bytes(b"after!")
    assert hash_files([tmp_path / "a.nhdr"]) != before


def test_linked_folders_belong_to_a_hash(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "1").write_bytes(b"before")
    case = tmp_path / "case"
    case.mkdir()
    (case / "series").symlink_to(tmp_path / "archive")
    before = hash_files([case])
    assert [path for path, _, _ in file_stamps(case)] == [str(case / "series" / "1")]
    (tmp_path / "archive" / "1").write_bytes(b"after!")
    assert hash_files([case]) != before


def test_fewer_cases_are_spread_over_the_list(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cases = [
        Case(f"c{i}", f"images/{i}.nii", f"labels/{i}.nii", f"p{i % 2}", i % 2) for i in range(20)
    ]
    for case in cases:
        (tmp_path / case.image).touch()
        (tmp_path / case.label).touch()
    write_datalist(cases, tmp_path / "list.json", about={})

    def chosen(number):
        found = fold_cases(tmp_path / "list.json", tmp_path, fold=1, held_out=False, number=number)
        return [case["case"] for case in found]

    assert chosen(2) == ["c4", "c14"]
    assert chosen(10) == chosen(None) == [f"c{i}" for i in range(0, 20, 2)]
    with pytest.raises(InputError, match="ask for 1 to 10"):
        chosen(11)
