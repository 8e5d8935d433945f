"""Few cases, as many patches: what augmentation is worth."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from reproductions.data_efficiency import draw, with_fewer_cases
from reproductions.parts import Part
from volseg.bundle import open_bundle
from volseg.data import read_datalist
from volseg.errors import InputError, MissingPackageError
from volseg.networks import read_weights


@pytest.mark.slow  # three trainings
def test_both_arms_see_as_many_patches_and_are_compared(unconverted_bundle, reproduction, tmp_path):
    pytest.importorskip("matplotlib")
    data, output = unconverted_bundle.parent / "data", tmp_path / "runs"
    words = ["--bundle", unconverted_bundle, "--data", data, "--output", output, "--epochs", 1]
    reproduction.run("data_efficiency", *words, "--cases", 2, "--seeds", 0)
    reproduction.run("data_efficiency", *words, "--cases", 0, "--seeds", 0, "--arms", "with")
    parts = reproduction.parts("data_efficiency").read()
    assert [part.settings["cases"] for part in parts] == [2, 2, 4]
    assert {part.figures["seen"] for part in parts} == {4}
    assert [part.figures["training_cases"] for part in parts] == [2, 2, 4]
    folders = [output / "data_efficiency" / part.part / "trained" for part in parts[:2]]
    one, other = (read_weights(folder / "models" / "model.pt") for folder in folders)
    assert any(not torch.equal(one[name], other[name]) for name in one)

    rows = {cells[0]: cells for cells in reproduction.table("data_efficiency")}
    assert rows["2"][1:3] == ["1 of 3", "4"]
    means = [float(cell) for cell in rows["2"][3:7]]
    gain = (means[1] - means[0] + means[3] - means[2]) / 2
    assert float(rows["2"][7]) == pytest.approx(gain, abs=2e-4)
    assert rows["4 (all)"][3::2] == ["-", "-", "-"]
    assert rows["8"][1] == "0 of 3"
    with Image.open(tmp_path / "docs" / "data_efficiency.png") as picture:
        assert picture.width > 600


def test_no_part_draws_nothing(tmp_path):
    draw([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_drawing_needs_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"matplotlib.*volseg\[research\]"):
        draw([Part("one", {})], tmp_path)


def test_more_cases_contain_fewer_and_the_fold_is_kept(unconverted_bundle, tmp_path):
    bundle = open_bundle(unconverted_bundle)

    def listed(number, seed):
        folder = with_fewer_cases(bundle, tmp_path / f"{number}_{seed}", number, fold=1, seed=seed)
        cases = read_datalist(folder / "configs" / "datalist.json")
        assert [case.case for case in cases if case.fold == 1] == ["ball1", "ball4"]
        return {case.case for case in cases if case.fold != 1}

    assert len(listed(1, 0)) == 1
    assert listed(1, 0) < listed(2, 0) < listed(3, 0)
    assert len({frozenset(listed(2, seed)) for seed in range(5)}) > 1
    with pytest.raises(InputError, match="5 training cases were asked for.*has 4 outside fold 1"):
        listed(5, 0)
