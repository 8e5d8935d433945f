"""Thresholds come from training slices, scores from the others."""

from __future__ import annotations

import numpy as np
import pytest

from reproductions.membranes import best_threshold, final_threshold, scores_of_slice


@pytest.mark.slow  # two trainings
def test_a_fold_and_the_final_network(tiny_pictures, reproduction, tmp_path):
    bundle = tiny_pictures("tiny_em", "electron_microscopy", "membrane", stored_classes=[1, 0])
    words = ["--bundles", bundle, "--data", tmp_path / "data", "--output", tmp_path / "runs"]
    reproduction.run("membranes", *words, "--folds", 3, "--final", "--seed", 7)
    parts = reproduction.parts("membranes").read()
    assert [part.settings["fold"] for part in parts] == [3, "all"]
    assert sorted(parts[0].figures["scores"]["membrane"]["accuracy"]) == ["6", "7"]
    assert (parts[0].figures["training_cases"], parts[1].figures["training_cases"]) == (8, 10)
    assert final_threshold(parts, "tiny_em") == parts[0].figures["threshold"]
    (cells,) = [cells for cells in reproduction.table("membranes") if cells[0] == "`tiny_em`"]
    assert cells[1:3] == ["1 of 5", "2"]
    # Stripes are 3 of 8 pixels; all white has the others right.
    assert cells[5] == "0.6250"
    assert cells[-3:] == ["> 0.93", "not yet known", "trained on all slices"]


def test_the_threshold_has_the_highest_accuracy_of_all_that_are_tried():
    random = np.random.default_rng(0)
    mask = random.random((50, 60)) < 0.3
    probability = np.clip(0.25 + 0.2 * mask + random.normal(0, 0.1, mask.shape), 0, 1)
    thresholds = np.arange(0.05, 0.951, 0.01)
    accuracies = [np.mean((probability > threshold) == mask) for threshold in thresholds]
    found = best_threshold([(probability[:20], mask[:20]), (probability[20:], mask[20:])])
    # Counted in steps of 0.001, which moves hardly a pixel.
    assert np.mean((probability > found) == mask) == pytest.approx(max(accuracies), abs=1e-3)
    assert 0.3 < found < 0.4


def test_a_perfect_slice_is_perfect_at_any_fitting_threshold():
    mask = np.zeros((12, 12), bool)
    mask[6] = True
    found = scores_of_slice(np.where(mask, 0.4, 0.1), mask, 0.3)
    assert found["accuracy"] == found["rand"] == found["boundary_f"] == found["dice"] == 1
    assert found["adapted_rand_error"] == pytest.approx(0)
    assert found["accuracy_at_half"] == found["all_white"] == pytest.approx(11 / 12)
