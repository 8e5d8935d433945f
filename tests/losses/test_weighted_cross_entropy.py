"""Cross entropy with a weight for each voxel, in the second channel of the target."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import ConcatItemsd

from volseg.errors import InputError, ShapeError
from volseg.losses import WeightedCrossEntropyLoss, border_weight_map
from volseg.networks import build_network

LOSS = WeightedCrossEntropyLoss()


def case(classes: int, *sides: int, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    logits = torch.randn(2, classes, *sides, dtype=dtype)
    target = torch.randint(0, max(2, classes), (2, 1, *sides)).to(dtype)
    return logits, target, torch.rand(2, 1, *sides, dtype=dtype) + 0.5


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("sides", [(6, 7), (4, 5, 6)])
def test_it_is_the_weighted_mean_of_minus_the_log_of_the_right_probability(classes, sides):
    logits, target, weights = case(classes, *sides)
    if classes == 1:
        foreground = logits.sigmoid()
        probabilities = torch.cat([1 - foreground, foreground], dim=1)
    else:
        probabilities = logits.softmax(dim=1)
    right = probabilities.gather(1, target.long())
    found = LOSS(logits, torch.cat([target, weights], dim=1))
    torch.testing.assert_close(found, -(weights * right.log()).mean())


def test_voxels_without_weight_may_hold_any_label_and_do_not_count():
    logits, target, weights = case(3, 4, 4)
    weights[..., 2:] = 0
    logits.requires_grad_()
    expected = LOSS(logits, torch.cat([target, weights], dim=1))
    target[..., 2:] = 255
    found = LOSS(logits, torch.cat([target, weights], dim=1))
    found.backward()
    assert found == expected
    assert logits.grad[..., 2:].abs().max() == 0
    assert logits.grad[..., :2].abs().min() > 0


@pytest.mark.parametrize("classes", [1, 3])
def test_the_gradient_is_that_of_the_value(classes):
    logits, target, weights = case(classes, 3, 4, dtype=torch.float64)
    joined = torch.cat([target, weights], dim=1)
    assert torch.autograd.gradcheck(lambda x: LOSS(x, joined), logits.requires_grad_())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_target_without_its_weights_is_refused(channels):
    with pytest.raises(ShapeError, match=r"expected \(1, 2, 4, 4\), holding class indices and wei"):
        LOSS(torch.zeros(1, 2, 4, 4), torch.zeros(1, channels, 4, 4))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_cannot_be_meant_are_refused(weight):
    target = torch.ones(1, 2, 4, 4)
    target[0, 1, 2, 2] = weight
    with pytest.raises(InputError, match=f"weights, holds {weight:g}"):
        LOSS(torch.zeros(1, 2, 4, 4), target)


def test_monais_trainer_trains_with_the_border_map():
    instances = torch.zeros(16, 16, dtype=torch.int64)
    instances[2:7, 2:14], instances[8:13, 2:14] = 1, 2
    label = (instances[None] > 0).float()
    case = {
        "image": label + 0.1 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0)),
        "label": label,
        "weight": border_weight_map(instances)[None],
    }
    join = ConcatItemsd(["label", "weight"], name="label")
    torch.manual_seed(0)
    network = build_network("unet", spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8))
    losses = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=30,
        train_data_loader=DataLoader(Dataset([case], join), batch_size=1),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=0.02),
        loss_function=LOSS,
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def _keep(engine):
        losses.append(engine.state.output[0]["loss"])

    trainer.run()
    assert losses[-1] < losses[0] / 2
