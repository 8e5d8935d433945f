"""Folds and members are trained once each, and the table is made of what was kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reproductions import hippocampus
from volseg import Segmenter
from volseg.data import fold_cases
from volseg.io import read_image
from volseg.metrics import dice


@pytest.mark.slow  # two trainings and their ensemble
def test_a_fold_with_two_members_is_trained_once_and_told(
    unconverted_bundle, reproduction, tmp_path, capsys
):
    data, output = unconverted_bundle.parent / "data", tmp_path / "runs"
    words = ["--bundle", unconverted_bundle, "--data", data, "--output", output]
    words += ["--folds", 0, "--members", 2, "--epochs", 1]
    reproduction.run("hippocampus", *words)
    table = reproduction.table("hippocampus")
    assert [cells[:3] for cells in table[1:]] == [
        ["`tiny_bundle`, one network, mean of 2 seeds", "1 of 5", "2"],
        ["`tiny_bundle`, mean of 2 networks", "1 of 5", "2"],
    ]
    assert [cells[-1] for cells in table[1:]] == ["not yet known"] * 2

    # The ensemble's Dice is that of the mean of the probabilities, by the segmenter's own mean.
    runs = output / "hippocampus"
    both = Segmenter([runs / f"tiny_bundle_fold0_seed{seed}" for seed in (0, 1)])
    case = fold_cases(unconverted_bundle / "configs/datalist.json", data, fold=0, held_out=True)[0]
    labels = both.segment(case["image"]).numpy()[0]
    expected = dice(labels, np.asarray(read_image(case["label"]))[0], label=1)
    (ensemble,) = [
        part for part in reproduction.parts("hippocampus").read() if "seeds" in part.settings
    ]
    found = ensemble.figures["scores"]["anterior"]["dice"][case["case"]]
    assert found == pytest.approx(expected, abs=1e-5)

    # Again: nothing is trained, and the files are the same.
    files = sorted((tmp_path / "results" / "hippocampus").iterdir())
    before = [file.read_bytes() for file in files]
    capsys.readouterr()
    reproduction.run("hippocampus", *words)
    assert capsys.readouterr().out.count("finished before") == 3
    assert [file.read_bytes() for file in files] == before
    assert str(tmp_path) not in "".join(map(bytes.decode, before))


def test_all_folds_reach_the_goal_or_do_not(reproduction):
    folder = reproduction.folder / "results" / "hippocampus"
    folder.mkdir(parents=True)
    for fold in range(hippocampus.FOLDS):
        scores = {
            name: {"dice": {f"{fold}a": value, f"{fold}b": value + 0.01}}
            for name, value in (("anterior", 0.91), ("posterior", 0.87))
        }
        part = {
            "part": f"fold{fold}",
            "settings": {"bundle": "some_unet", "fold": fold, "seed": 0},
            "figures": {"scores": scores, "seconds": 36.0, "bundle": "Some U-Net 0.1.0"},
            "date": "2026-01-01",
            "machine": {"threads": 1, "processor": "A processor", "torch": "2"},
        }
        (folder / f"fold{fold}.json").write_text(json.dumps(part), encoding="utf-8")
    _, cells = reproduction.table("hippocampus")
    assert cells[:3] == ["`some_unet`, one network", "5 of 5", "10"]
    assert cells[3].startswith("0.9150 (0.9")
    assert cells[4].startswith("0.8750 (0.8")
    assert cells[-1] == "in part"
    assert "trained for 0.05 hours on 1 thread(s) of A processor" in reproduction.readme.read_text()


def test_nothing_measured_is_said(reproduction):
    assert reproduction.table("hippocampus") == []
    assert "Nothing is measured yet" in reproduction.readme.read_text(encoding="utf-8")
