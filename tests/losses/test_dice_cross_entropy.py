"""Dice and cross entropy against MONAI's, value and gradient, and with voxels left out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceCELoss, DiceLoss

from volseg.errors import InputError
from volseg.losses import DiceCrossEntropyLoss
from volseg.losses.class_sums import softmax_sums


def case(classes, sides=(9, 6, 7), dtype=torch.float64):
    random = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(3, classes, *sides, generator=random, dtype=dtype)
    target = torch.randint(0, max(2, classes), (3, 1, *sides), generator=random)
    target[1] = 0  # an image without foreground
    return logits, target


def value_and_gradient(loss, logits, target):
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_cost_what_they_cost_in_monai(classes, background, batch, layout):
    logits, target = case(classes)
    expected = DiceCELoss(
        to_onehot_y=True, softmax=True, include_background=background, batch=batch
    )
    ours = DiceCrossEntropyLoss(include_background=background, batch=batch)
    logits = logits.to(memory_format=layout)
    for found, wanted in zip(
        value_and_gradient(ours, logits, target),
        value_and_gradient(expected, logits, target),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-12)


def test_sums_over_millions_of_voxels_are_exact():
    random = torch.Generator().manual_seed(0)
    indices = torch.randint(0, 2, (1, 1, 2**21), generator=random)
    scores = torch.cat([indices, 1 - indices], 1).mul(-3.5).float()  # 0.97 of the truth's class
    found = softmax_sums(scores, indices)
    expected = softmax_sums(scores.double(), indices)
    for name, sums in found._asdict().items():
        torch.testing.assert_close(sums.double(), getattr(expected, name), rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch", [True, False])
def test_regions_and_the_one_foreground_cost_what_monai_and_torch_say(batch):
    logits, _ = case(3)
    target = (logits + torch.randn(logits.shape) > 0).to(torch.uint8)
    target[:, 2] |= target[:, 1]  # one within the other
    dice = DiceLoss(sigmoid=True, batch=batch)  # DiceCELoss has no binary entropy of many channels
    for channels, regions in ((3, True), (1, True), (1, False)):
        ours = DiceCrossEntropyLoss(regions=regions, batch=batch)
        some, masks = logits[:, :channels], target[:, :channels].double()
        expected = dice(some, masks) + F.binary_cross_entropy_with_logits(some, masks)
        torch.testing.assert_close(ours(some, masks.to(torch.uint8)), expected)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("regions", [False, True])
def test_the_gradient_is_that_of_the_value(classes, regions):
    logits, target = case(classes, sides=(3, 4))
    if regions:
        target = (logits > 1).long()
    target[2, 0, 1] = 9
    loss = DiceCrossEntropyLoss(regions=regions, ignore=9, batch=False, include_background=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


@pytest.mark.parametrize("classes", [1, 3])
def test_an_ignored_part_is_as_if_it_had_been_cut_away(classes):
    logits, target = case(classes)
    kept, truth = logits[..., :4], target[..., :4]
    target[..., 4:] = 255
    found, gradient = value_and_gradient(DiceCrossEntropyLoss(ignore=255), logits, target)
    expected, of_kept = value_and_gradient(DiceCrossEntropyLoss(), kept, truth)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient[..., :4], of_kept)
    assert not gradient[..., 4:].any()
    everything = torch.full_like(target, 255)
    found, gradient = value_and_gradient(DiceCrossEntropyLoss(ignore=255), logits, everything)
    assert found == 0
    assert not gradient.any()


def test_the_value_to_ignore_is_no_class_unless_it_is_said():
    logits, target = case(3)
    target[..., 0] = 255
    with pytest.raises(InputError, match="value 255; expected class indices, integers from 0 to 2"):
        DiceCrossEntropyLoss()(logits, target)
    with pytest.raises(InputError, match="value 255"):
        DiceCrossEntropyLoss(ignore=254)(logits, target)


def test_a_confident_mistake_keeps_its_gradient():
    # The probability of the class is 0 in float32.
    logits = torch.tensor([300.0, -300.0]).reshape(1, 2, 1, 1).requires_grad_()
    loss = DiceCrossEntropyLoss()(logits, torch.ones(1, 1, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(601)
    assert logits.grad.flatten().tolist() == pytest.approx([1, -1])


def test_without_smoothing_an_absent_class_has_no_value_and_is_refused():
    with pytest.raises(InputError, match="smooth is 0"):
        DiceCrossEntropyLoss(smooth=0)
