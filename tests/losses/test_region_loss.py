"""The loss of nested structures, beside MONAI's on masks made by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceLoss

from volseg.errors import InputError
from volseg.losses import DeepSupervisionLoss, DiceCrossEntropyLoss, RegionLoss

REGIONS = [[1, 2, 3], [2, 3], [3]]


def labels(*shape):
    return torch.randint(0, 4, (2, 1, *shape), generator=torch.Generator().manual_seed(0))


def masks(target):
    return torch.cat([torch.isin(target, torch.tensor(values)) for values in REGIONS], dim=1)


@pytest.mark.parametrize("shape", [(9, 8), (6, 5, 7)])
def test_it_is_the_sigmoid_loss_of_the_masks(shape):
    logits, target = torch.randn(2, 3, *shape), labels(*shape)
    loss = RegionLoss(DiceCrossEntropyLoss(regions=True), REGIONS)
    truth = masks(target).float()
    # MONAI's DiceCELoss takes the softmax of several channels for its cross entropy.
    expected = DiceLoss(sigmoid=True, batch=True)(logits, truth)
    expected += F.binary_cross_entropy_with_logits(logits, truth)
    assert loss(logits, target.float()).item() == pytest.approx(expected.item(), abs=1e-4)


def test_what_is_ignored_has_no_gradient_and_changes_nothing():
    logits, target = torch.randn(2, 3, 6, 5, 7), labels(6, 5, 7)
    loss = RegionLoss(DiceCrossEntropyLoss(regions=True, ignore=255), REGIONS, ignore=255)
    target[:, :, :2] = 255
    logits.requires_grad_()
    found = loss(logits, target)
    found.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().min() > 0
    rest = loss(logits[:, :, 2:], target[:, :, 2:])
    assert found.item() == pytest.approx(rest.item(), abs=1e-6)


def test_regions_are_told_apart_on_the_grid_of_each_head():
    heads, target = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)], labels(8, 8)
    loss = RegionLoss(DiceCrossEntropyLoss(regions=True), REGIONS)
    coarse = torch.nn.functional.interpolate(target.float(), (4, 4), mode="nearest-exact")
    expected = (2 * loss(heads[0], target) + loss(heads[1], coarse)) / 3
    assert DeepSupervisionLoss(loss, [2 / 3, 1 / 3])(heads, target).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_values_that_are_in_no_region_are_refused():
    loss = RegionLoss(DiceCrossEntropyLoss(regions=True), REGIONS)
    for value in (4, -1):
        with pytest.raises(InputError, match=f"the value {value}; expected 0, 1, 2, 3, which"):
            loss(torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), value))
    # Not between those of the regions either.
    gap = RegionLoss(DiceCrossEntropyLoss(regions=True, ignore=9), [[1, 3], [3]], ignore=9)
    assert gap(torch.zeros(1, 2, 2, 2), torch.tensor([[[[0, 1], [3, 9]]]])).isfinite()
    with pytest.raises(InputError, match="the value 2; expected 0, 1, 3, .*, or 9 to ignore"):
        gap(torch.zeros(1, 2, 2, 2), torch.tensor([[[[0, 1], [2, 9]]]]))
    for regions, ignore in ([], None), ([[0, 1]], None), ([[1, 2]], 2):
        with pytest.raises(InputError, match="the regions are"):
            RegionLoss(DiceCrossEntropyLoss(regions=True), regions, ignore=ignore)
