"""A part is done once; one that fails is kept with its reason, shown and tried again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reproductions.parts import PartStore
from volseg.errors import InputError, OutputError


def test_a_part_that_is_done_is_not_done_again(tmp_path):
    store = PartStore(tmp_path / "row")
    done = []

    def work():
        done.append(1)
        return {"dice": 0.5}

    first = store.do("one", {"fold": 0}, work)
    assert store.do("one", {"fold": 0}, work) == first
    assert done == [1]
    assert store.read() == [first]
    with pytest.raises(OutputError, match=r"was done with \{'fold': 0\}.*delete it"):
        store.do("one", {"fold": 1}, work)


def test_a_part_that_fails_does_not_stop_others_and_is_tried_again(tmp_path, capsys):
    store = PartStore(tmp_path / "row", {tmp_path / "data": "DATA"})

    def fail():
        raise InputError(f"there is no file {tmp_path}/data/a.png.")

    assert store.do("one", {}, fail).failure == "InputError: there is no file DATA/a.png."
    store.do("two", {}, lambda: {"dice": 1.0})
    assert store.failed == ["one"]
    assert "one: failed" in capsys.readouterr().err
    again = PartStore(tmp_path / "row")
    assert again.do("one", {"seed": 1}, lambda: {"dice": 0.75}).figures == {"dice": 0.75}
    assert [part.failure for part in again.read()] == [None, None]


def test_the_command_is_kept_without_places(tmp_path, monkeypatch):
    words = ["row", "--data=/home/me/patients", "--output", "runs/mine", "--bundle=/home/me/unet"]
    monkeypatch.setattr("sys.argv", ["reproduce.py", *words, "--epochs=8", "/home/me/x"])
    part = PartStore(tmp_path / "row").do("one", {}, dict)
    assert part.command == (
        "python scripts/reproduce.py row --data=... --output ... --bundle=unet --epochs=8 x"
    )


def test_a_place_in_the_working_directory_does_not_change_sentences(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail():
        raise InputError(f"No. 1 in {tmp_path}/r is no real image.")

    store = PartStore(tmp_path / "row", {Path("r"): "RESULTS", Path(): "DATA"})
    failure = store.do("one", {}, fail).failure
    assert failure == "InputError: No. 1 in RESULTS is no real image."


def test_an_interruption_leaves_nothing(tmp_path):
    store = PartStore(tmp_path / "row")

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.do("one", {}, interrupted)
    assert store.read() == []


def test_a_file_that_is_no_part_is_named(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"dice": 1}), encoding="utf-8")
    with pytest.raises(InputError, match=r"one\.json is no part of a reproduction"):
        PartStore(tmp_path).read()
