"""Convolutions that train faster give what torch's give, forward and backward."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from volseg.networks import build_network
from volseg.training import network_to_train
from volseg.training.channels_last import CHANNELS_LAST
from volseg.training.compiled_convolution import add_products
from volseg.training.fast_convolution import FastConvolution, gradient_of_weight

# One side longer than what is summed in one go, planes of one row, sides shorter than the kernel.
CASES = [
    (nn.Conv3d(16, 16, 3, padding=1), (2, 16, 12, 10, 9)),
    (nn.Conv3d(8, 16, (1, 3, 3), padding=(0, 1, 1)), (1, 8, 5, 6, 70)),
    (nn.Conv3d(8, 8, 3, padding=1), (1, 8, 1, 2, 1)),
    (nn.Conv3d(24, 32, 5, padding=2, bias=False), (2, 24, 4, 3, 7)),
    (nn.Conv2d(8, 24, 3, padding=1), (3, 8, 17, 130)),
    (nn.Conv2d(32, 64, (3, 1), padding=(1, 0)), (2, 32, 9, 4)),
]


def results(layer: nn.Module, x: Tensor, weights: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what goes in and of the parameters."""
    given = x.clone().requires_grad_()
    found = layer(given)
    (found * weights).sum().backward()
    return [found.detach(), given.grad, *(one.grad for one in layer.parameters())]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_convolution_is_that_of_torch_in_double_precision(case, channels_last):
    torch.manual_seed(0)
    layer, shape = case
    assert FastConvolution.is_made_for(layer)
    fast = FastConvolution(copy.deepcopy(layer))
    assert fast.state_dict().keys() == layer.state_dict().keys()
    x, weights = torch.randn(shape), torch.randn(len(layer.weight))
    if channels_last:
        x = x.to(memory_format=CHANNELS_LAST[x.ndim])
    weights = weights.view(1, -1, *[1] * (x.ndim - 2)) + torch.randn(shape[0], 1, *shape[2:])
    expected = results(copy.deepcopy(layer).double(), x.double(), weights.double())
    # Up to 4000 products are summed in single precision, in an order of the processor's.
    for ours, theirs in zip(results(fast, x, weights), expected, strict=True):
        scale = theirs.abs().max()
        torch.testing.assert_close(ours.double() / scale, theirs / scale, rtol=0, atol=1e-5)


def test_the_gradient_does_not_depend_on_threads_or_on_where_values_lie():
    torch.manual_seed(0)
    x = torch.randn(2, 24, 20, 24, 16).to(memory_format=torch.channels_last_3d)[:, 4:20]
    gradient, weight = torch.randn(2, 32, 20, 24, 16), torch.randn(32, 16, 3, 3, 3)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found += [gradient_of_weight(one, gradient, weight) for one in (x, x.contiguous())]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], one) for one in found)


@pytest.mark.parametrize("wide", [False, True])
def test_processors_of_all_widths_find_the_same(wide):
    random = np.random.default_rng(0)
    x, g = random.normal(size=(1, 6, 5, 7, 16)), random.normal(size=(1, 6, 5, 7, 32))
    sums = np.zeros((2, 3, 3, 3, 16, 32), np.float32)
    rows = [value for one in (x, g) for value in (one.astype(np.float32).ravel(), 0, one.shape[-1])]
    add_products(*rows, 6, (6, 5, 7), (3, 3, 3), 2, wide, 0, 18, sums)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    for a, b, c in np.ndindex(3, 3, 3):
        moved = padded[:, a : a + 6, b : b + 5, c : c + 7]
        expected = np.einsum("nabci,nabco->io", moved, g)
        np.testing.assert_allclose(sums.sum(axis=0)[a, b, c], expected, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(8, 8, 1),
        nn.Conv3d(8, 8, 3),
        nn.Conv3d(8, 8, 3, stride=2, padding=1),
        nn.Conv3d(8, 8, 3, dilation=2, padding=1),
        nn.Conv3d(8, 8, 3, padding=1, groups=2),
        nn.Conv3d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv3d(8, 8, 2, padding=1),
        nn.Conv3d(8, 8, 3, padding="same"),
        nn.Conv3d(1, 8, 3, padding=1),
        nn.Conv3d(8, 3, 3, padding=1),
        nn.ConvTranspose3d(8, 8, 3, padding=1),
    ],
    ids=str,
)
def test_other_layers_stay_as_they_are(layer):
    assert not FastConvolution.is_made_for(layer)


def test_other_precisions_are_left_to_torch():
    fast = FastConvolution(nn.Conv3d(8, 8, 3, padding=1))
    x = torch.randn(1, 8, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == torch.bfloat16
    assert fast.double()(x.double()).dtype == torch.float64


def test_a_network_that_is_trained_has_them_and_the_same_weights():
    network = build_network("unet", spatial_dims=3, in_channels=1, out_channels=2, channels=[8, 16])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = network_to_train(network)
    assert sum(isinstance(module, FastConvolution) for module in trained.modules()) == 5
    assert trained.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
