"""A step of training: parts of a batch, clipping, precision, and a loss that is no number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from volseg.errors import InputError, UnknownNameError
from volseg.training import TrainingStep


def trainer(step: TrainingStep, network: nn.Module, batches: list[dict[str, Any]], **options: Any):
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        iteration_update=step,
        decollate=False,
        **options,
    )


def batch(size: int, **more: Any) -> dict[str, Any]:
    torch.manual_seed(3)
    return {"image": torch.randn(size, 1, 6, 6), "label": torch.randn(size, 1, 6, 6), **more}


def network() -> nn.Conv2d:
    torch.manual_seed(4)
    return nn.Conv2d(1, 1, 3, padding=1)


@pytest.mark.parametrize("parts", [2, 3, 9])
def test_a_batch_in_parts_takes_the_step_of_the_batch(parts):
    whole, split = network(), network()
    trainer(TrainingStep(), whole, [batch(5)]).run()
    run = trainer(TrainingStep(parts=parts), split, [batch(5)])
    run.run()
    torch.testing.assert_close(split.weight, whole.weight)
    expected = nn.MSELoss()(network()(batch(5)["image"]), batch(5)["label"]).detach()
    torch.testing.assert_close(run.state.output["loss"], expected)


def test_the_gradient_is_no_longer_than_its_largest_norm():
    clipped = network()
    before = clipped.weight.detach().clone(), clipped.bias.detach().clone()
    trainer(TrainingStep(clip_norm=0.01), clipped, [batch(2)]).run()
    moved = torch.cat([(clipped.weight - before[0]).flatten(), clipped.bias - before[1]]).detach()
    assert moved.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_a_loss_that_is_no_number_stops_with_the_cases_and_leaves_the_weights():
    bad = batch(2, case=["anna", "bert"])
    bad["image"][0, 0, 0, 0] = float("nan")
    model = network()
    run = trainer(TrainingStep(), model, [batch(2), bad])
    with pytest.raises(InputError, match=r"loss is nan in epoch 1, step 2, .* anna, bert"):
        run.run()
    once = network()
    trainer(TrainingStep(), once, [batch(2)]).run()
    assert torch.equal(model.weight, once.weight)


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_changed():
    model, before = network(), network()
    run = trainer(TrainingStep(clip_norm=1.0), model, [batch(2, case=["anna", "bert"])])
    run.loss_function = lambda logits, target: (0 * logits).abs().sum().sqrt()  # 0, its slope none
    with pytest.raises(InputError, match=r"norm of the gradient is nan in epoch 1, .* anna, bert"):
        run.run()
    assert torch.equal(model.weight, before.weight)


def test_bf16_is_refused_on_a_processor_without_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(InputError, match="does not compute in bf16"):
        TrainingStep(precision="bf16")
    assert TrainingStep(precision="auto").dtype is None


def test_bf16_computes_logits_in_it_and_the_loss_in_f32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model = network()
    run = trainer(TrainingStep(precision="bf16"), model, [batch(2)])
    kinds = []
    run.loss_function = lambda logits, target: (
        kinds.append(logits.dtype),
        nn.functional.mse_loss(logits.float(), target),
    )[1]
    run.run()
    assert kinds == [torch.bfloat16]
    assert model.weight.dtype == torch.float32


@pytest.mark.parametrize("options", [{"parts": 0}, {"clip_norm": 0.0}, {"precision": "f16"}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(InputError):
        TrainingStep(**options)


def test_an_unknown_precision_answers_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="bf16"):
        TrainingStep(precision="fp32")
