"""The Deep ResUNet against measured counts of the published architecture.

The paper's 7.8 million parameters leave out shortcuts and normalisations; multiply-accumulates
count convolution kernels only.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError, ShapeError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.resunet import SPEC, ResUNet

every_dimension = pytest.mark.parametrize("dims", [2, 3])


def tiny(dims: int, channels: int = 1, classes: int = 2):
    torch.manual_seed(0)
    return ResUNet(dims, channels, classes, **SPEC.presets["tiny"])


def on_meta(dims: int, in_channels: int, out_channels: int, **options):
    with torch.device("meta"):
        return ResUNet(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("dims", "side", "channels", "classes", "options", "parameters", "macs"),
    [
        (2, 224, 3, 1, {}, 8_220_993, 34_627_059_712),
        (2, 224, 3, 1, {"bias": False}, 8_216_769, 34_627_059_712),
        (3, 96, 1, 2, {}, 23_777_538, 933_488_492_544),
        (3, 96, 1, 2, {"channels": (32, 64, 128, 256)}, 5_947_522, 233_796_796_416),
    ],
)
def test_counts(dims, side, channels, classes, options, parameters, macs):
    network = on_meta(dims, channels, classes, **options)
    assert count_parameters(network) == parameters
    assert count_multiply_accumulates(network, channels, (side,) * dims) == macs


def test_the_paper_counts_the_kernels_without_the_shortcuts():
    kernels = [
        parameter.numel()
        for name, parameter in on_meta(2, 3, 1).named_parameters()
        if parameter.ndim == 4 and "shortcut" not in name
    ]
    assert sum(kernels) == 7_780_096


def test_units_are_fully_pre_activated():
    """With silent convolutions a unit is its shortcut alone: nothing is activated after the sum."""
    network = ResUNet(2, 1, 2, channels=(4, 8), norm="none").eval()
    for unit in (*network.encoder, *network.decoder):
        torch.nn.init.zeros_(unit.residual[-1].weight)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        first = network.encoder[0](x)
        assert torch.equal(first, network.encoder[0].shortcut(x))
        assert torch.equal(network.encoder[1](first), network.encoder[1].shortcut(first))
        torch.testing.assert_close(network(-3 * x), -3 * network(x))


def test_a_side_that_does_not_fit_is_refused_with_the_size_to_pad_to():
    with pytest.raises(ShapeError, match="resunet .* pad the input to 104 x 8"):
        on_meta(2, 1, 1)(torch.zeros(1, 1, 100, 4, device="meta"))


@pytest.mark.parametrize("options", [{"channels": (8,)}, {"norm": "layers"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        ResUNet(2, 1, 2, **options)
