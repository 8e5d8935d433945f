"""The script that writes the datalist of a bundle, as it is called."""

from __future__ import annotations

import sys

import pytest

import list_cases
from volseg.data import read_datalist

CASES = ("Patient 01", "Müller 2", "Patient 02")


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Return what runs the script on files of these names, and gives the cases that it lists."""

    def run(names, *words):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        target = tmp_path / "datalist.json"
        about = ["--name", "test", "--licence", "none", "--folds", "2"]
        words = ["list_cases.py", tmp_path, target, *about, *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        list_cases.main()
        return read_datalist(target)

    return run


def test_cases_to_take_are_named_one_a_line(listed, tmp_path):
    only = tmp_path / "only.txt"
    only.write_bytes("\ufeffPatient 01\r\n\r\nMüller 2\r\n".encode())  # as Windows writes it
    files = [f"{kind}/{case}.nii" for kind in ("images", "labels") for case in CASES]
    cases = listed(files, "--only", only)
    assert {case.case for case in cases} == {"Patient 01", "Müller 2"}
    only.write_bytes("Müller 2\n".encode("latin-1"))
    for path in (only, tmp_path / "absent.txt"):
        with pytest.raises(SystemExit, match=f"{path.name} cannot be read as a list of cases"):
            listed(files, "--only", path)


def test_names_of_channels_may_have_spaces_between_them(listed):
    files = [f"images/{name}/{case}.nii" for name in ("t1", "flair") for case in "ab"]
    cases = listed([*files, "labels/a.nii", "labels/b.nii"], "--channels", "t1, flair")
    assert cases[0].image == {"t1": "images/t1/a.nii", "flair": "images/flair/a.nii"}
