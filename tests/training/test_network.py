"""The network that is trained is the network that was built."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from volseg.networks import build_network, network_spec, read_weights
from volseg.training import network_to_train, train_bundle
from volseg.training.fast_layers import FastInstanceNorm, PointwiseConvolution
from volseg.training.recomputing import recompute_levels


def tiny(name: str, dims: int = 2) -> nn.Module:
    torch.manual_seed(0)
    options = dict(network_spec(name).presets["tiny"])
    if network_spec(name).deep_supervision:
        options["deep_supervision"] = True
    return build_network(name, spatial_dims=dims, in_channels=1, out_channels=2, **options)


def gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a sum of all logits with changing weights, by parameter."""
    torch.manual_seed(1)
    network.train()
    heads = network(x)
    total = torch.zeros(())
    for head in heads if isinstance(heads, (list, tuple)) else [heads]:
        total = total + (head * torch.linspace(-1, 1, head.numel()).view_as(head)).sum()
    total.backward()
    return {name: one.grad for name, one in network.named_parameters() if one.grad is not None}


def image() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 1, 32, 32)


# Lists that grow, batch normalisation, levels inside of levels, levels that are met twice.
@pytest.mark.parametrize("name", ["unet", "unet3plus", "monai_vnet", "attentionunet", "bionet"])
def test_levels_that_are_computed_again_give_the_same_gradients_and_statistics(name):
    network, x = tiny(name), image()
    # A copy is what a running mean of the weights is made of: it computes with its own.
    again = copy.deepcopy(network_to_train(copy.deepcopy(network), recompute=True))
    plain = network_to_train(copy.deepcopy(network))
    expected, found = gradients(plain, x), gradients(again, x)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[one], expected[one]) for one in expected)
    for one, other in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["unet", "dynunet", "resencunet"])
def test_fast_layers_give_the_gradients_and_the_state_of_the_network(name):
    network, x = tiny(name), image()
    fast = network_to_train(copy.deepcopy(network))
    kinds = {type(module) for module in fast.modules()}
    assert {FastInstanceNorm, PointwiseConvolution} <= kinds or name != "unet"
    assert FastInstanceNorm in kinds or name == "unet"
    assert fast.state_dict().keys() == network.state_dict().keys()
    expected, found = gradients(network, x), gradients(fast, x)
    largest = max(float(one.abs().max()) for one in expected.values())
    for one in expected:
        torch.testing.assert_close(found[one], expected[one], rtol=0, atol=1e-5 * largest)


def test_less_is_kept_for_the_way_back_when_levels_are_computed_again():
    kept = []
    for recompute in (False, True):
        network = network_to_train(tiny("unet"), recompute=recompute).train()
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(image())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


class InTurns(nn.Module):
    """Layers, one after the other."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def level(channels: int) -> nn.Module:
    first, second = nn.Conv2d(channels, 2, 3), nn.Conv2d(2, 2, 3)
    return InTurns(first, nn.BatchNorm2d(2), nn.ReLU(), second, nn.BatchNorm2d(2))


def test_compiled_levels_that_are_computed_again_give_the_same_gradients_and_statistics():
    torch.manual_seed(0)
    network, x = InTurns(level(1), level(2), level(2)), image()
    again = copy.deepcopy(network)
    assert recompute_levels(again) == 3
    again.compile(backend="aot_eager")
    expected, found = gradients(network, x), gradients(again, x)
    assert expected.keys() == found.keys()
    largest = max(float(one.abs().max()) for one in expected.values())
    for one in expected:
        torch.testing.assert_close(found[one], expected[one], rtol=0, atol=1e-5 * largest)
    for one, other in zip(network.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(other, one)


def test_without_a_compiler_the_network_is_trained_as_it_is_and_this_is_said(monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        network = network_to_train(tiny("unet"), compile=True)
    assert "without torch.compile: there is no C++ compiler" in caplog.text
    assert network(image())[0].shape == (2, 2, 32, 32)


def test_a_bundle_trains_to_the_same_weights_with_levels_computed_again(tiny_bundle, tmp_path):
    weights = []
    for recompute in (False, True):
        out = tmp_path / str(recompute)
        settings = {"recompute": recompute, "batch_parts": 2, "clip_norm": 12.0}
        data = tiny_bundle.parent / "data"
        trained = train_bundle(tiny_bundle, data, out, epochs=1, settings=settings)
        weights.append(read_weights(trained.weights))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
