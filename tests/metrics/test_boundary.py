"""Boundaries that are drawn thick or thin, shifted or missing."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.errors import InputError, ShapeError
from volseg.metrics import boundary_scores, pixel_accuracy


def wall(at: int, thickness: int = 1) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[:, at : at + thickness] = True
    return mask


def test_thickness_does_not_count_and_a_shift_does_past_the_tolerance():
    equal = boundary_scores(wall(10, 5), wall(12), tolerance_voxels=1)
    assert (equal.precision, equal.recall, equal.f_score) == (1, 1, 1)
    assert boundary_scores(wall(10), wall(12), tolerance_voxels=2).f_score == 1
    assert boundary_scores(wall(10), wall(12), tolerance_voxels=1.9).f_score == 0


def test_what_is_invented_costs_precision_and_what_is_missed_recall():
    one, two = wall(8), wall(8) | wall(20)
    invented = boundary_scores(two, one)
    assert (invented.precision, invented.recall) == (0.5, 1)
    assert invented.f_score == pytest.approx(2 / 3)
    missed = boundary_scores(one, two)
    assert (missed.precision, missed.recall) == (1, 0.5)


def test_what_separates_nothing_is_no_boundary():
    loose = wall(8).copy()
    loose[10:] = False
    nothing = np.zeros_like(loose)
    assert np.isnan(boundary_scores(loose, nothing).precision)
    assert boundary_scores(loose, wall(8)).f_score == 0
    assert boundary_scores(nothing, wall(8)).recall == 0


def test_volumes_and_wrong_options():
    volume = np.repeat(wall(8)[..., np.newaxis], 4, axis=2)
    assert boundary_scores(volume, volume, tolerance_voxels=0).f_score == 1
    with pytest.raises(InputError, match="tolerance"):
        boundary_scores(wall(8), wall(8), tolerance_voxels=-1)
    with pytest.raises(ShapeError, match="one"):
        boundary_scores(wall(8), volume)


def test_pixel_accuracy():
    prediction, reference = np.array([[0, 1, 1, 0]]), np.array([[0, 1, 0, 255]])
    assert pixel_accuracy(prediction, reference) == 0.5
    assert pixel_accuracy(prediction, reference, ignore=255) == pytest.approx(2 / 3)
    assert np.isnan(pixel_accuracy(prediction, np.full((1, 4), 255), ignore=255))
