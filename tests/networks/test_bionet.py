"""BiO-Net against the authors' counts and the meaning of its recurrence.

Golden numbers: measured on the authors' torch model (MIT), 3 channels to 1 class; the published
14.99 M lies between 3 iterations without and with integration. 3D counts are of the same plan.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.bionet import SPEC, BiONet


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> BiONet:
    torch.manual_seed(0)
    return BiONet(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> BiONet:
    with torch.device("meta"):
        return BiONet(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 1), {"iterations": 1}, 14_964_417),
        ((2, 3, 1), {"iterations": 2}, 14_971_137),
        ((2, 3, 1), {}, 14_977_857),
        ((2, 3, 1), {"iterations": 1, "integrate": True}, 14_964_417),
        ((2, 3, 1), {"iterations": 2, "integrate": True}, 14_980_353),
        ((2, 3, 1), {"integrate": True}, 14_996_289),
        ((2, 3, 1), {"iterations": 4, "integrate": True}, 15_012_225),
        ((2, 3, 1), {"bridge_norm_per_iteration": True}, 14_984_001),
        ((2, 3, 1), {"channels": (8, 16, 32, 64, 128)}, 941_649),
        ((2, 3, 1), {"channels": (32, 64, 128, 256)}, 3_756_353),
        ((3, 1, 1), {}, 44_874_561),
        ((3, 1, 1), {"channels": (16, 32, 64, 128, 256)}, 11_226_017),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 3, 1), {"iterations": 1}, (64, 64), 560_463_872),
        ((2, 3, 1), {"iterations": 2}, (64, 64), 966_262_784),
        ((2, 3, 1), {}, (64, 64), 1_372_061_696),
        ((2, 3, 1), {}, (512, 512), 87_811_948_544),
        ((2, 3, 1), {"iterations": 2, "integrate": True}, (64, 64), 1_004_011_520),
        ((2, 3, 1), {"integrate": True}, (64, 64), 1_447_559_168),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    assert count_multiply_accumulates(network, arguments[1], sides) == expected


@pytest.mark.parametrize("integrate", [False, True])
def test_one_iteration_is_a_plain_network_whose_encoder_reads_its_input_twice(integrate):
    network = tiny(2, channels=(4, 6, 8), iterations=1, integrate=integrate).eval()
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        features = network.stem(x)
        skips = []
        for level in network.encoder:
            skip = level.second(level.first(torch.cat([features, features], dim=1)))
            skips.append(skip)
            features = torch.nn.functional.max_pool2d(level.third(skip), 2)
        for unit in network.bridge:
            features = unit(features)
        for level, skip in zip(network.decoder, skips[::-1], strict=True):
            joined = torch.cat([features, skip], dim=1)
            features = level.third(level.second(level.first(joined)))
        assert torch.equal(network(x), network.head(features))


def test_the_backward_skips_carry_the_decoder_to_the_next_encoder():
    network = tiny(2, channels=(4, 6, 8), iterations=2, integrate=False).eval()
    tapped, read = [], []
    for level in network.decoder:
        level.register_forward_hook(lambda _module, _inputs, output: tapped.append(output[0]))
    for level in network.encoder:
        level.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    network(torch.randn(1, 1, 16, 16))
    for level, backward in enumerate((tapped[1], tapped[0])):  # shallow first
        first, again = read[level], read[2 + level]
        own = first.shape[1] // 2
        assert torch.equal(first[:, :own], first[:, own:])
        assert torch.equal(again[:, own:], backward)
    assert torch.equal(read[0][:, :4], read[2][:, :4])  # both iterations start from the stem


def test_iterations_add_normalisations_and_nothing_else():
    def norms(network: BiONet) -> int:
        return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())

    networks = [on_meta(2, 3, 1, iterations=t) for t in (1, 2, 3, 4)]
    counts = [norms(network) for network in networks]
    assert [b - a for a, b in pairwise(counts)] == [24, 24, 24]
    once, thrice = networks[0].state_dict(), networks[2].state_dict()
    assert {name: value.shape for name, value in once.items()}.items() <= {
        name: value.shape for name, value in thrice.items()
    }.items()
    assert all(".norms." in name for name in thrice.keys() - once.keys())
    assert len({id(p) for p in networks[2].parameters()}) == len(list(networks[2].parameters()))


def test_the_norms_of_the_second_iteration_do_not_touch_the_first():
    network = tiny(2, iterations=2, integrate=False).eval()
    x = torch.randn(1, 1, 16, 16)
    passes: list[torch.Tensor] = []
    network.decoder[0].register_forward_hook(
        lambda _module, _inputs, output: passes.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    with torch.no_grad():
        network(x)
        for name, parameter in network.named_parameters():
            if ".norms.1." in name:
                parameter.add_(torch.rand_like(parameter))
        network(x)
    first, second, first_again, second_again = passes
    assert torch.equal(first, first_again)
    assert not torch.equal(second, second_again)


def test_without_integration_only_the_last_norm_of_earlier_iterations_is_unread():
    network = tiny(2, iterations=3, integrate=False, channels=(4, 6, 8)).train()
    network(torch.randn(2, 1, 16, 16)).square().mean().backward()
    dead = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert dead == {
        f"decoder.1.third.norms.norms.{iteration}.{kind}"
        for iteration in (0, 1)
        for kind in ("weight", "bias")
    }


def test_evaluation_is_deterministic_and_leaves_the_running_statistics():
    network = tiny(2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_momentum_of_the_original_is_that_of_keras():
    network = on_meta(2, 3, 1, **SPEC.presets["reference"])
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.99}


@pytest.mark.parametrize("options", [{"iterations": 0}, {"channels": (4,)}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="two widths and one iteration"):
        tiny(2, **options)
