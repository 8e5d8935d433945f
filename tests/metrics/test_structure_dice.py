"""The metric of engines counts a structure that is missing as `volseg.metrics.dice` does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from volseg.metrics import dice
from volseg.metrics.structure_dice import MeanStructureDice
from volseg.transforms.structure_masks import structure_masks


def maps() -> list[tuple[np.ndarray, np.ndarray]]:
    """Three cases of two structures: both there; the second invented; missed; in neither."""
    random = np.random.default_rng(0)
    first, second = random.integers(0, 3, (2, 6, 7, 8))
    without, missed = np.where(second == 2, 0, second), np.where(first == 2, 0, first)
    return [(first, second), (first, without), (missed, second), (without, without)]


def test_the_mean_is_that_of_the_scores_that_apply():
    expected = np.array(
        [[dice(found == value, truth == value) for value in (1, 2)] for found, truth in maps()]
    )
    assert expected[1, 1] == 0
    assert math.isnan(expected[3, 1])
    batches = [
        [structure_masks(torch.as_tensor(one)[None], [[1], [2]])[None] for one in pair]
        for pair in maps()
    ]
    engine = Engine(lambda _engine, batch: batch)
    MeanStructureDice(lambda output: output).attach(engine, "mean")
    MeanStructureDice(lambda output: output, of_each=True).attach(engine, "each")
    engine.run(batches)
    each = np.nanmean(expected, axis=0)
    np.testing.assert_allclose(engine.state.metrics["each"], each, atol=1e-6)
    # As MONAI has it: the mean over the structures of a case, and then over cases.
    assert engine.state.metrics["mean"] == pytest.approx(
        np.nanmean(np.nanmean(expected, axis=1)), abs=1e-6
    )
