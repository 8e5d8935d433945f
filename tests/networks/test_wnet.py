"""W-Net against the modules of the paper's figure.

Golden numbers: no count is published; ours were measured on a network of the same layer plan, with
biases and batch normalisation (K segments, 3 channels). 46 convolutions and 18 modules are the
paper's.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.wnet import SPEC, WNet

SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> WNet:
    torch.manual_seed(0)
    return WNet(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> WNet:
    with torch.device("meta"):
        return WNet(dims, in_channels, out_channels, **options)


class BothUNets(torch.nn.Module):
    """What training runs; evaluation runs the segmenting U-Net alone."""

    def __init__(self, network: WNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.segment_and_rebuild(x)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 64), {}, 12_299_331),
        ((2, 3, 20), {}, 12_271_127),
        ((2, 3, 2), {}, 12_259_589),
        ((2, 3, 64), {"separable": False}, 62_126_403),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 3, 64), {}, (224, 224), 26_636_029_952),
        ((2, 3, 64), {"separable": False}, (224, 224), 75_728_027_648),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    assert count_multiply_accumulates(BothUNets(network), arguments[1], sides) == expected


def test_eighteen_modules_of_which_four_are_dense():
    dense, network = on_meta(2, 3, 64, separable=False), on_meta(2, 3, 64)
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    assert sum(isinstance(module, kinds) for module in dense.modules()) == 46
    modules = [
        block
        for half in (network.segmenting, network.rebuilding)
        for block in [*half.encoder, *half.decoder]
    ]
    depthwise = [any(getattr(m, "groups", 1) > 1 for m in block) for block in modules]
    assert len(modules) == 18
    assert [number for number, deep in enumerate(depthwise, start=1) if not deep] == [1, 9, 10, 18]
    assert count_parameters(network.segmenting) == 6_134_080


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("classes", [1, 4])
def test_the_image_is_rebuilt_from_the_probabilities(dims, classes):
    network = tiny(dims, 3, classes).eval()
    x = torch.randn(1, 3, *SIDES[dims])
    logits, rebuilt = network.segment_and_rebuild(x)
    assert torch.equal(logits, network(x))
    assert rebuilt.shape == x.shape
    shift = 0.0 if classes == 1 else 7.0  # a softmax does not see a constant
    soft = torch.sigmoid(logits) if classes == 1 else torch.softmax(logits + shift, dim=1)
    torch.testing.assert_close(network.rebuilding(soft), rebuilt, atol=1e-4, rtol=1e-4)


def test_a_dropout_follows_each_module():
    network, plain = tiny(2, dropout=0.65), tiny(2)
    rates = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.65] * 10  # five modules in each of the two U-Nets of three levels
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(network.eval()(x), plain.eval()(x))
    assert not torch.equal(network.train()(x), plain.train()(x))


def test_segmenting_does_not_run_the_second_network():
    network = tiny(2).eval()
    network.rebuilding.register_forward_hook(lambda *_: pytest.fail("the second U-Net was run"))
    network(torch.zeros(1, 1, 8, 8))


def test_one_level_is_refused():
    with pytest.raises(InputError, match="two levels"):
        tiny(2, channels=(8,))


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_reach_every_parameter(dims):
    network = tiny(dims).train()
    logits, rebuilt = network.segment_and_rebuild(torch.randn(2, 1, *SIDES[dims]))
    (logits.square().mean() + rebuilt.square().mean()).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
