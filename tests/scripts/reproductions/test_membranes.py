"""Thresholds come from the other folds, scores from slices that a network has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from reproductions.members import pooled
from reproductions.membranes import evidence_of, scores_of_slice
from volseg.bundle import open_bundle
from volseg.choosing import choose_threshold


@pytest.mark.slow  # three trainings
def test_two_folds_and_the_final_network(tiny_pictures, reproduction, tmp_path, capsys):
    bundle = tiny_pictures("tiny_em", "electron_microscopy", "membrane", stored_classes=[1, 0])
    words = ["--bundles", bundle, "--data", tmp_path / "data", "--output", tmp_path / "runs"]
    words += ["--seed", 7]
    reproduction.run("membranes", *words, "--folds", 1)
    assert "1 of 2 folds, no threshold yet" in capsys.readouterr().out
    (cells,) = [cells for cells in reproduction.table("membranes") if cells[0] == "`tiny_em`"]
    assert cells[1:4] == ["1 of 2", "2", "-"]
    # Stripes are 3 of 8 pixels; all white has the others right.
    assert cells[5] == "0.6250"
    assert cells[-2:] == ["not yet known", "not yet trained"]
    reproduction.run("membranes", *words, "--folds", 0)  # and judge that fold alone
    (cells,) = [cells for cells in reproduction.table("membranes") if cells[0] == "`tiny_em`"]
    assert cells[1:4] == ["2 of 2", "4", "-"]
    assert cells[-2:] == ["not yet known", "not yet trained"]

    reproduction.run("membranes", *words, "--final")
    parts = {part.part: part for part in reproduction.parts("membranes").read()}
    names = [f"tiny_em_fold{fold}_seed7" for fold in (0, 1)]
    assert sorted(parts) == [
        *(part for name in names for part in (name, f"{name}_scores")),
        "tiny_em_foldall_seed7",
    ]
    networks, scores = [parts[name] for name in names], parts[f"{names[0]}_scores"]
    assert sorted(scores.figures["scores"]["membrane"]["accuracy"]) == ["0", "1"]
    # The threshold of fold 0 is what the slices of fold 1 alone say.
    others = choose_threshold(evidence_of(networks[1:]), metric="pixel_accuracy")
    assert scores.figures["threshold"] == others.value
    final = parts["tiny_em_foldall_seed7"]
    assert final.figures["training_cases"] == 4
    everything = choose_threshold(evidence_of(networks), metric="pixel_accuracy")
    assert final.figures["threshold"] == everything.value
    made = open_bundle(tmp_path / "runs" / "membranes" / "tiny_em_foldall_seed7")
    told = pooled([parts[f"{name}_scores"] for name in names], "membrane", "accuracy")
    accuracy = made.metadata["eval_metrics"]["accuracy_membrane_out_of_fold"]
    assert accuracy == pytest.approx(np.mean(list(told.values())), abs=1e-4)
    inference = yaml.safe_load(made.config("inference").read_text(encoding="utf-8"))
    assert inference["threshold"] == everything.value
    (cells,) = [cells for cells in reproduction.table("membranes") if cells[0] == "`tiny_em`"]
    assert cells[1:3] == ["2 of 2", "4"]
    assert cells[-3:-1] == ["> 0.93", "no"]
    assert cells[-1] == f"threshold {everything.value:g}"


def test_a_perfect_slice_is_perfect_at_a_fitting_threshold():
    mask = np.zeros((12, 12), bool)
    mask[6] = True
    found = scores_of_slice(np.where(mask, 0.4, 0.1), mask, 0.3)
    assert found["accuracy"] == found["rand"] == found["boundary_f"] == found["dice"] == 1
    assert found["adapted_rand_error"] == pytest.approx(0)
    assert found["all_white"] == pytest.approx(11 / 12)
    assert scores_of_slice(np.where(mask, 0.4, 0.1), mask, 0.5)["dice"] == 0
