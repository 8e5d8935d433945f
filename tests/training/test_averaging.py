"""The running mean of the weights goes on from where a checkpoint left it."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from volseg.training import AveragedWeights


def averaged(options, *, steps, state=None):
    """The mean after some steps, each of which adds one to the weight."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0 if state is None else state[0])
    mean = AveragedWeights(network, **options)
    engine = Engine(lambda engine, batch: network.weight.data.add_(1))
    mean.attach(engine)
    if state is not None:
        mean.load_state_dict(state[1])
    engine.run([0] * steps)
    return network.weight.item(), copy.deepcopy(mean.state_dict())


@pytest.mark.parametrize("warm_up", [{}, {"momentum_warmup": 0.2, "warmup_iters": 4}])
def test_the_mean_is_gone_on_with_with_and_without_a_warm_up(warm_up):
    options = {"momentum": 0.5, **warm_up}
    _, whole = averaged(options, steps=5)
    _, in_two = averaged(options, steps=3, state=averaged(options, steps=2))
    assert whole["updates"] == in_two["updates"] == (5 if warm_up else 0)
    assert torch.equal(whole["network"]["weight"], in_two["network"]["weight"])
    assert 0 < whole["network"]["weight"].item() < 5
