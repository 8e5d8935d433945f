"""Rand scores against scikit-image and against counting of pairs; cells between membranes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error

from volseg.errors import ShapeError
from volseg.metrics import cells_between, rand_scores


def divisions(seed: int, shape=(9, 8)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 4, shape), random.integers(0, 3, shape)


@pytest.mark.parametrize("shape", [(9, 8), (5, 4, 3)])
def test_the_adapted_error_is_that_of_scikit_image(shape):
    for seed in range(3):
        prediction, reference = divisions(seed, shape)
        error, _, _ = adapted_rand_error(reference, prediction)
        assert rand_scores(prediction, reference).adapted_error == pytest.approx(error)


def test_the_scores_are_shares_of_pairs():
    prediction, reference = divisions(5, (5, 4))
    cells = [pair for pair in zip(reference.flat, prediction.flat, strict=True) if pair[0]]
    pairs = list(itertools.product(cells, cells))
    both = sum(a == b for a, b in pairs)
    true, said = (sum(a[k] == b[k] for a, b in pairs) for k in (0, 1))
    found = rand_scores(prediction, reference)
    assert (found.split, found.merge) == pytest.approx((both / true, both / said))
    assert found.score == pytest.approx(2 * found.split * found.merge / (found.split + found.merge))


def test_what_was_merged_and_what_was_split():
    reference = np.repeat([[1], [0], [2]], 5, axis=1)
    merged, split = np.ones_like(reference), reference.copy()
    split[0, 2:] = 7
    assert rand_scores(merged, reference).split == 1
    assert rand_scores(merged, reference).merge == 0.5
    assert rand_scores(split, reference).merge == 1
    assert rand_scores(split, reference).split == pytest.approx((4 + 9 + 25) / 50)
    equal = rand_scores(reference + 3, reference)
    assert (equal.score, equal.adapted_error) == (1, 0)
    assert np.isnan(rand_scores(reference, np.zeros_like(reference)).score)
    with pytest.raises(ShapeError, match="one shape"):
        rand_scores(reference, reference[:2])


def test_cells_between_membranes_grow_until_they_touch():
    membranes = np.zeros((7, 9), bool)
    membranes[:, 3:6] = True
    membranes[3, :3] = True
    cells = cells_between(membranes)
    assert cells.max() == 3
    assert ((cells == 0) == membranes).all()
    grown = cells_between(membranes, grown=True)
    assert (grown > 0).all()
    assert (grown[~membranes] == cells[~membranes]).all()
    # A gap of one pixel in a membrane makes one cell of two.
    membranes[3, 1] = False
    assert cells_between(membranes).max() == 2
    assert cells_between(np.ones((3, 3), bool), grown=True).max() == 0
