"""Both arms are trained once, measured, and compared with each other only."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml

import reproduce
from volseg.networks import read_weights


def _run(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "augmentation", *map(str, words)])
    reproduce.main()


@pytest.mark.slow  # two trainings in processes of their own
def test_both_arms_are_trained_once_and_compared(tiny_bundle, tmp_path, monkeypatch, capsys):
    data, output = tiny_bundle.parent / "data", tmp_path / "arms"
    words = ["--bundles", tiny_bundle, "--data", data, "--output", output, "--threads", 1]
    _run(monkeypatch, *words, "--epochs", 1)
    first = capsys.readouterr().out.splitlines()
    rows = [line for line in first if line.startswith("| `tiny_bundle` |")]
    assert [row.split(" | ")[1:5] for row in rows] == [
        ["anterior", "all", "4", "2"],
        ["posterior", "all", "4", "2"],
    ]
    arms = {name: output / "tiny_bundle" / f"all_cases_{name}" for name in ("with", "without")}
    with_, without = (read_weights(arm / "models" / "model.pt") for arm in arms.values())
    # The same budget and seed, but not the same patches.
    assert with_.keys() == without.keys()
    assert any(not torch.equal(with_[name], without[name]) for name in with_)
    settings = [
        yaml.safe_load((arm / "configs" / "overrides.yaml").read_text()) for arm in arms.values()
    ]
    assert [one.pop("augment") for one in settings] == [True, False]
    assert settings[0] == settings[1]

    # Asked again, nothing is trained again, and the table is the same.
    before = {name: (arm / "train.log").stat() for name, arm in arms.items()}
    _run(monkeypatch, *words, "--epochs", 1)
    again = capsys.readouterr().out.splitlines()
    assert [line for line in again if line.startswith("| `tiny_bundle` |")] == rows
    for name, arm in arms.items():
        assert (arm / "train.log").stat().st_mtime_ns == before[name].st_mtime_ns

    # Another budget is not mixed with this one.
    with pytest.raises(SystemExit, match="choose another output"):
        _run(monkeypatch, *words, "--epochs", 2)


def test_a_bundle_without_the_switch_is_refused(tiny_bundle, tmp_path, monkeypatch):
    file = tiny_bundle / "configs" / "train.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("augment:")]
    assert len(kept) == len(lines) - 1
    file.write_text("\n".join(kept), encoding="utf-8")
    words = ["--bundles", tiny_bundle, "--data", tiny_bundle.parent / "data", "--output", tmp_path]
    with pytest.raises(SystemExit, match="no entry 'augment'"):
        _run(monkeypatch, *words)


def test_data_that_are_not_there_are_named_before_anything_is_trained(
    tiny_bundle, tmp_path, monkeypatch
):
    output = tmp_path / "arms"
    words = ["--bundles", tiny_bundle, "--data", tmp_path / "absent", "--output", output]
    with pytest.raises(SystemExit, match="ball0.* does not exist"):
        _run(monkeypatch, *words)
    assert not output.exists()
