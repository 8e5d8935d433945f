"""What every loss called with logits and class indices must keep, in 2D and 3D."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.losses import DiceCELoss

from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.losses import (
    DeepSupervisionLoss,
    DiceCrossEntropyLoss,
    UNet3PlusLoss,
    UNetPlusPlusLoss,
    WeightedCrossEntropyLoss,
)


class UnitWeights(WeightedCrossEntropyLoss):
    """The weighted cross entropy behind the call of the others: every voxel weighs 1."""

    def forward(self, logits, target):
        return super().forward(logits, torch.cat([target, torch.ones_like(target)], dim=1))


LOSSES = {
    "dice cross entropy": DiceCrossEntropyLoss(),
    "dice cross entropy of images": DiceCrossEntropyLoss(batch=False, include_background=True),
    "unetplusplus": UNetPlusPlusLoss(),
    "unetplusplus sigmoid": UNetPlusPlusLoss(activation="sigmoid", include_background=True),
    "unetplusplus printed": UNetPlusPlusLoss(as_printed=True),
    "unet3plus": UNet3PlusLoss(),
    "unet3plus sigmoid": UNet3PlusLoss(activation="sigmoid", batch=True),
    "weighted": UnitWeights(),
    "deep": DeepSupervisionLoss(UNetPlusPlusLoss(), [1.0]),
}
SIDES = {2: (16, 24), 3: (8, 6, 12)}

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_dimension = pytest.mark.parametrize("dims", [2, 3])
one_or_many = pytest.mark.parametrize("classes", [1, 2, 4])


def case(dims: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, *SIDES[dims], generator=random)
    target = torch.randint(0, max(2, classes), (2, 1, *SIDES[dims]), generator=random)
    return logits, target


def certain(target: torch.Tensor, classes: int, size: float = 20.0) -> torch.Tensor:
    """Logits that are sure of the target."""
    if classes == 1:
        return (target * 2.0 - 1) * size
    return torch.cat([(target == index) * 2.0 - 1 for index in range(classes)], dim=1) * size


IGNORE = 255
FAMILIES = {
    "dice cross entropy": DiceCrossEntropyLoss,
    "unetplusplus": UNetPlusPlusLoss,
    "unetplusplus printed": partial(UNetPlusPlusLoss, as_printed=True),
    "unet3plus": UNet3PlusLoss,
}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@every_loss
@every_dimension
@one_or_many
def test_the_loss_is_a_finite_number_with_a_gradient_that_lowers_it(loss, dims, classes):
    logits, target = case(dims, classes)
    logits.requires_grad_()
    value = loss(logits, target)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    step = 0.1 * gradient / gradient.norm()
    assert loss(logits - step, target) < value


@every_loss
@every_dimension
@one_or_many
def test_right_is_better_than_unsure_and_unsure_better_than_wrong(loss, dims, classes):
    _, target = case(dims, classes)
    right = certain(target, classes)
    wrong = -right.requires_grad_()
    value = loss(wrong, target)
    assert loss(right, target) < loss(0 * right, target) < value
    # As far from the target as float32 goes, and still no infinity and no NaN.
    (gradient,) = torch.autograd.grad(loss(50 * wrong, target), right)
    assert torch.isfinite(gradient).all()


@every_loss
def test_the_order_of_the_images_does_not_matter(loss):
    logits, target = case(2, 4)
    torch.testing.assert_close(loss(logits.flip(0), target.flip(0)), loss(logits, target))


@every_loss
def test_the_order_of_the_axes_does_not_matter(loss):
    logits, target = case(3, 4)
    turned = loss(logits.transpose(2, 4), target.transpose(2, 4))
    torch.testing.assert_close(turned, loss(logits, target))


@every_loss
def test_targets_may_be_what_monai_gives(loss):
    logits, target = case(3, 4)
    expected = loss(logits, target)
    for other in (target.float(), target.to(torch.uint8), MetaTensor(target.float())):
        found = loss(MetaTensor(logits), other)
        torch.testing.assert_close(found, expected)
        assert type(found) is torch.Tensor


@every_loss
@one_or_many
def test_mixed_precision_is_close_to_full(loss, classes):
    logits, target = case(2, classes)
    expected = loss(logits, target)
    short = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(short, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)
    found.backward()
    assert torch.isfinite(short.grad).all()


@every_loss
def test_a_target_on_another_grid_is_refused(loss):
    logits, target = case(2, 4)
    for wrong in (target[..., :-1], target[:1], target[:, 0]):
        with pytest.raises(ShapeError, match=r"target.*\(2, .*expected"):
            loss(logits, wrong)
    with pytest.raises(ShapeError, match="shape"):
        loss(logits[None], target[None])


@every_loss
def test_what_is_no_class_index_is_refused(loss):
    logits, target = case(2, 4)
    for value in (-1.0, 4.0, 0.5, float("nan")):
        wrong = target.float()
        wrong[1, 0, 3, 5] = value
        with pytest.raises(InputError, match=f"{value:g}.*integers from 0 to 3"):
            loss(logits, wrong)
    with pytest.raises(InputError, match="integers from 0 to 1"):
        loss(logits[:, :1], torch.full_like(target, 2))


@pytest.mark.parametrize("loss", [UNetPlusPlusLoss, UNet3PlusLoss])
def test_the_foreground_of_two_classes_is_one_channel_of_their_difference(loss):
    logits, target = case(2, 2)
    difference = logits[:, 1:] - logits[:, :1]
    torch.testing.assert_close(loss()(logits, target), loss()(difference, target))


@pytest.mark.parametrize("loss", [UNetPlusPlusLoss, UNet3PlusLoss])
def test_sigmoid_channels_do_not_see_each_other_and_softmax_channels_do(loss):
    logits, target = case(2, 4)
    other = logits.clone()
    other[:, 0] += 1.0  # the background
    sigmoid, softmax = loss(activation="sigmoid"), loss(activation="softmax")
    assert sigmoid(other, target) == sigmoid(logits, target)
    assert softmax(other, target) != softmax(logits, target)
    with_background = loss(activation="sigmoid", include_background=True)
    assert with_background(other, target) != with_background(logits, target)
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        loss(activation="soft-max")


def test_bundles_build_the_losses_from_plain_options():
    parser = ConfigParser(
        {
            "heads": 2,
            "loss": {
                "_target_": "volseg.losses.DeepSupervisionLoss",
                "loss": {"_target_": "volseg.losses.UNet3PlusLoss", "gamma": 1.0},
                "weights": {"_target_": "volseg.losses.halving_weights", "heads": "@heads"},
            },
            "monai": {
                "_target_": "volseg.losses.DeepSupervisionLoss",
                "loss": {
                    "_target_": "monai.losses.DiceCELoss",
                    "to_onehot_y": True,
                    "softmax": True,
                },
                "weights": [0.5, 0.5],
            },
        }
    )
    logits, target = case(2, 4)
    heads = [logits, logits[..., ::2, ::2]]
    built = parser.get_parsed_content("loss")
    expected = DeepSupervisionLoss(UNet3PlusLoss(gamma=1.0), [2 / 3, 1 / 3])(heads, target)
    torch.testing.assert_close(built(heads, target), expected)
    dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
    torch.testing.assert_close(
        parser.get_parsed_content("monai")([logits, logits], target), dice_ce(logits, target)
    )


@every_family
@pytest.mark.parametrize("options", [{}, {"include_background": True}, {"regions": True}])
@one_or_many
def test_what_is_ignored_has_no_gradient_and_changes_nothing(family, options, classes):
    logits, target = case(3, classes)
    if "regions" in options:
        target = (target == torch.arange(classes).reshape(1, -1, 1, 1, 1)).long()
    where = torch.zeros_like(target[:, :1], dtype=torch.bool)
    where[0, :, :3], where[1, ..., 5] = True, True
    marked = target.masked_fill(where, IGNORE).float().requires_grad_(False)
    loss = family(ignore=IGNORE, **options)
    gradients, values = [], []
    for other in (logits, logits.masked_fill(where, 7.5)):
        leaf = other.clone().requires_grad_()
        value = loss(leaf, marked)
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, leaf)[0])
    assert torch.isfinite(values[0])
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not gradients[0].masked_select(where).any()
    assert gradients[0].masked_select(~where).all()
    # Without an ignored voxel it is the loss without the option; with nothing else it is no number.
    torch.testing.assert_close(loss(logits, target), family(**options)(logits, target))
    nothing = loss(logits, torch.full_like(target, IGNORE))
    assert torch.isfinite(nothing)


@every_family
def test_regions_are_binary_images_that_do_not_see_each_other(family):
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 12, 16, generator=random)
    target = torch.randint(0, 2, logits.shape, generator=random)  # they overlap
    together = family(regions=True)(logits, target)
    alone = [family()(logits[:, [k]], target[:, [k]]) for k in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).mean())


@every_family
def test_regions_that_are_no_masks_are_refused(family):
    logits = torch.zeros(2, 3, 12, 16)
    loss = family(regions=True)
    with pytest.raises(InputError, match="value 2; expected 0 and 1, a channel a region"):
        loss(logits, torch.full_like(logits, 2))
    with pytest.raises(ShapeError, match=r"expected \(2, 3, 12, 16\)"):
        loss(logits, logits[:, :1])
    with pytest.raises(InputError, match="value 255"):
        loss(logits, torch.full_like(logits, 255))
