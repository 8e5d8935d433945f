"""The hybrid loss of UNet 3+: its three parts, and patches of every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from volseg.errors import ShapeError
from volseg.losses import UNet3PlusLoss, multiscale_ssim


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("sides", [(24, 26), (8, 9, 10)])
def test_it_is_the_sum_of_its_three_parts(activation, sides):
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (2, 3, *sides))
    target = random.integers(0, 3, (2, 1, *sides))
    probability = (softmax(logits, axis=1) if activation == "softmax" else expit(logits))[:, 1:]
    truth = np.stack([target[:, 0] == label for label in (1, 2)], axis=1).astype(float)
    of_truth = np.where(truth == 1, probability, 1 - probability)
    focal = -((1 - of_truth) ** 2 * np.log(of_truth)).mean()
    space = tuple(range(2, truth.ndim))
    common = (truth * probability).sum(space)
    iou = (common / (truth.sum(space) + probability.sum(space) - common)).mean()
    ssim = multiscale_ssim(torch.from_numpy(probability), torch.from_numpy(truth)).mean().item()
    found = UNet3PlusLoss(activation=activation)(torch.from_numpy(logits), torch.from_numpy(target))
    assert found.item() == pytest.approx(focal + (1 - ssim) + (1 - iou), abs=1e-5)


@pytest.mark.parametrize("sides", [(32, 32), (96, 50), (16, 16, 16), (4, 32, 32)])
def test_a_perfect_prediction_costs_nothing_on_any_patch(sides):
    torch.manual_seed(0)
    target = torch.randint(0, 2, (1, 1, *sides)).float()
    assert UNet3PlusLoss()((target * 2 - 1) * 30, target).item() == pytest.approx(0, abs=1e-5)


def test_a_batch_may_share_one_intersection_over_union():
    target = torch.zeros(2, 1, 8, 8)
    target[0] = 1  # the second image lacks the class
    logits = torch.where(target == 1, 30.0, -3.0)
    # A few false voxels count fully in an image of their own, little in the whole batch.
    alone, together = (UNet3PlusLoss(batch=batch)(logits, target) for batch in (False, True))
    false = 64 / (1 + np.exp(3))
    assert (alone - together).item() == pytest.approx(0.5 - false / (64 + false), abs=1e-4)


def test_a_slice_thinner_than_three_voxels_is_refused():
    with pytest.raises(ShapeError, match="at least 3 voxels"):
        UNet3PlusLoss()(torch.zeros(1, 1, 8, 8, 2), torch.zeros(1, 1, 8, 8, 2))
