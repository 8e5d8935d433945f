"""Layers that train faster give what torch's give, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from volseg.training.fast_layers import FastInstanceNorm, PointwiseConvolution

# The last is longer than what is summed in one go and is shared by two threads.
SHAPES = [(2, 16, 12, 10, 9), (3, 5, 1, 7, 8), (1, 1, 4, 6), (2, 8, 16, 18), (2, 16, 20, 24, 16)]


def results(norm: nn.Module, slope: float, x: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """The activations, and the gradients of what goes in, of scale and of offset."""
    given = x.clone().requires_grad_()
    found = norm(given)
    if slope != 1:
        found = nn.functional.leaky_relu(found, slope)
    (found * weights).sum().backward()
    assert given.grad is not None
    return found.detach(), given.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_instance_normalisation_and_activation_are_those_of_torch_in_double_precision(shape, slope):
    torch.manual_seed(0)
    kind = nn.InstanceNorm3d if len(shape) == 5 else nn.InstanceNorm2d
    layer = kind(shape[1], affine=True)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = 3 * torch.randn(shape) + 20  # far from 0, where sums of squares lose digits
    weights = torch.randn(shape)
    expected = results(copy.deepcopy(layer).double(), slope, x.double(), weights.double())
    found = results(FastInstanceNorm(copy.deepcopy(layer), slope), 1, x, weights)
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.abs().max()
        torch.testing.assert_close(ours.double() / scale, theirs / scale, rtol=0, atol=3e-6)


def test_tensors_are_read_where_they_lie():
    torch.manual_seed(0)
    fast = FastInstanceNorm(nn.InstanceNorm3d(4, affine=True), 0.01)
    plain = torch.randn(2, 4, 6, 7, 8)
    wide = torch.randn(2, 12, 6, 7, 8).to(memory_format=torch.channels_last_3d)
    wide[:, 5:9] = plain
    expected = results(fast, 1, plain, torch.ones(()))
    fast.zero_grad()
    for lying in (wide[:, 5:9], plain.to(memory_format=torch.channels_last_3d)):
        found = results(fast, 1, lying, torch.ones(()))
        fast.zero_grad()
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_sums_do_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    fast = FastInstanceNorm(nn.InstanceNorm3d(16, affine=True), 0.01)
    x, weights = torch.randn(2, 2, 16, 20, 24, 16)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(results(fast, 1, x, weights))
            fast.zero_grad()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_double_precision_is_left_to_torch():
    fast = FastInstanceNorm(nn.InstanceNorm3d(4, affine=True).double(), 0.01)
    assert fast(torch.randn(1, 4, 3, 3, 3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_that_of_torch(bias):
    torch.manual_seed(0)
    layer = nn.Conv3d(5, 3, 1, bias=bias)
    fast = PointwiseConvolution(copy.deepcopy(layer))
    assert fast.state_dict().keys() == layer.state_dict().keys()
    x = torch.randn(2, 5, 4, 5, 6)
    for one in (layer, fast):
        (one(x) ** 2).sum().backward()
    torch.testing.assert_close(fast(x), layer(x))
    torch.testing.assert_close(fast.weight.grad, layer.weight.grad)
