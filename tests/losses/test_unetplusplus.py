"""The loss of UNet++ against its formula, written out on probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from volseg.errors import InputError
from volseg.losses import UNetPlusPlusLoss


def dice(truth, probability):
    return (2 * (truth * probability).sum() + 1) / (truth.sum() + probability.sum() + 1)


def of_the_code(truth, probability):
    cross_entropy = -(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean()
    return 0.5 * cross_entropy - dice(truth, probability)


def as_printed(truth, probability):
    images = zip(truth, probability, strict=True)
    return np.mean([-0.5 * (y * np.log(p)).mean() - dice(y, p) for y, p in images])


@pytest.mark.parametrize(("printed", "formula"), [(False, of_the_code), (True, as_printed)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("classes", [1, 4])
def test_it_is_the_mean_of_the_formula_over_the_foreground_classes(
    printed, formula, activation, classes
):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3, classes, 6, 5, 4))
    target = random.integers(0, max(2, classes), (3, 1, 6, 5, 4))
    target[0] = 0  # an image without foreground
    if classes == 1 or activation == "sigmoid":
        probability = expit(logits)
    else:
        probability = softmax(logits, axis=1)
    pairs = [
        (np.float64(target[:, 0] == label), probability[:, 0 if classes == 1 else label])
        for label in range(1, max(2, classes))
    ]
    loss = UNetPlusPlusLoss(activation=activation, as_printed=printed)
    found = loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert found.item() == pytest.approx(np.mean([formula(y, p) for y, p in pairs]), rel=1e-10)


def test_a_perfect_prediction_gives_minus_one():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:5, 3:6] = 1
    assert UNetPlusPlusLoss()((target * 2 - 1) * 50, target).item() == pytest.approx(-1)


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_gradient_is_that_of_the_value(printed, classes):
    torch.manual_seed(0)
    logits = torch.randn(2, classes, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, max(2, classes), (2, 1, 3, 4))
    loss = UNetPlusPlusLoss(as_printed=printed)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_a_confident_mistake_keeps_its_gradient():
    # Probabilities of exactly 0 and 1 in float32.
    logits = torch.tensor([200.0, -200.0, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    target = torch.ones(1, 1, 1, 1)
    loss = UNetPlusPlusLoss()(logits, target)
    loss.backward()
    # 400 for class 1, which is far off; nothing for class 2, which is right.
    assert loss.item() == pytest.approx(0.5 * 400 / 2 - (0.5 + 1) / 2)
    assert logits.grad[0, 1, 0, 0].item() == pytest.approx(-0.25)


def test_without_smoothing_an_empty_image_has_no_value_and_is_refused():
    with pytest.raises(InputError, match="smooth is 0"):
        UNetPlusPlusLoss(smooth=0)
