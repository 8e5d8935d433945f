"""Deep supervision: every head against the target on its own grid, full resolution first."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss as MonaiDeepSupervisionLoss
from monai.losses import DiceCELoss

from volseg.errors import InputError, ShapeError
from volseg.losses import DeepSupervisionLoss, halving_weights
from volseg.networks import build_network


def difference(logits, target):
    return (logits - target).abs().mean()


def test_halving_weights_halve_and_sum_to_one():
    assert halving_weights(1) == [1.0]
    assert halving_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert sum(halving_weights(7)) == pytest.approx(1)
    with pytest.raises(InputError, match="at least 1"):
        halving_weights(0)


@pytest.mark.parametrize("sides", [(16, 24), (16, 8, 24)])
def test_the_sum_is_that_of_monai_where_monai_takes_the_same_weights(sides):
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 1, *sides)).float()
    heads = [torch.randn(2, 3, *(side // 2**level for side in sides)) for level in range(3)]
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    weights = halving_weights(3)
    expected = MonaiDeepSupervisionLoss(loss, weights=weights)(heads, target)
    torch.testing.assert_close(DeepSupervisionLoss(loss, weights)(heads, target), expected)


def test_the_target_of_a_coarse_head_holds_voxels_of_the_target():
    # Centres of the thirds of 12 voxels are the voxels 1, 4, 7 and 10.
    target = torch.arange(12).reshape(1, 1, 12, 1).expand(1, 1, 12, 12)
    seen = []
    loss = DeepSupervisionLoss(lambda head, truth: seen.append(truth) or head.sum(), [1, 1])
    loss([torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 4, 12)], target)
    assert seen[0] is target or torch.equal(seen[0], target)
    assert seen[1][0, 0, :, 0].tolist() == [1, 4, 7, 10]
    assert seen[1].dtype == target.dtype


def test_heads_may_lie_on_any_coarser_grid_and_share_one():
    target = torch.ones(1, 1, 9, 10)
    heads = [torch.full((1, 1, *sides), 2.0) for sides in ((9, 10), (9, 10), (5, 7), (2, 7))]
    value = DeepSupervisionLoss(difference, [4, 3, 2, 1])(heads, target)
    assert value == 10


def test_one_tensor_is_one_unweighted_loss():
    target = torch.zeros(1, 1, 4, 4)
    assert DeepSupervisionLoss(difference, [0.6, 0.3])(target + 1, target) == 1


def test_each_head_gets_the_gradient_of_its_weight_and_none_without():
    target = torch.zeros(1, 1, 4, 4)
    heads = [torch.ones(1, 1, 4, 4, requires_grad=True) for _ in range(3)]
    DeepSupervisionLoss(difference, [0.75, 0.25, 0])(heads, target).backward()
    assert heads[0].grad.sum() == pytest.approx(0.75)
    assert heads[1].grad.sum() == pytest.approx(0.25)
    assert heads[2].grad is None


@pytest.mark.parametrize("name", ["unet", "unetplusplus"])
def test_a_network_trains_with_it_and_is_validated_with_it(name):
    torch.manual_seed(0)
    network = build_network(
        name,
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=(4, 4, 4, 4),
        deep_supervision=True,
    )
    image, target = torch.randn(1, 1, 16, 16), torch.randint(0, 2, (1, 1, 16, 16))
    heads = network(image)
    loss = DeepSupervisionLoss(
        DiceCELoss(to_onehot_y=True, softmax=True), halving_weights(len(heads))
    )
    loss(heads, target).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.isfinite(loss(network.eval()(image), target))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([], "one a head"),
        ([0, 0], "sum above 0"),
        ([1, -0.5], "at least 0"),
        ([1, float("nan")], "finite"),
        ([0.25, 0.5], "full resolution comes first"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights, sentence):
    with pytest.raises(InputError, match=sentence):
        DeepSupervisionLoss(difference, weights)


def test_heads_that_do_not_fit_are_refused():
    target = torch.zeros(1, 1, 8, 8)
    full, half = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)
    loss = DeepSupervisionLoss(difference, [2, 1])
    for heads in ([full], [full, half, half], []):
        with pytest.raises(ShapeError, match=f"gave {len(heads)} heads for 2 weights"):
            loss(heads, target)
    for heads in ([half, full], [half, half]):
        with pytest.raises(ShapeError, match="first on the grid of the target"):
            loss(heads, target)
    # MONAI's DynUNet stacks its heads on a new axis.
    with pytest.raises(ShapeError, match="unbind stacked heads"):
        loss(torch.zeros(1, 2, 1, 8, 8), target)
