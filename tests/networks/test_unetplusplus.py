"""UNet++ against the papers' node graph and counts.

Golden numbers: 9.04 M is the papers' count (Zhou 2018, widths 32 to 512, no normalisation); the
pruned ones and all multiply-accumulates were measured on networks of the same layer plan.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.unetplusplus import SPEC, UNetPlusPlus

SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> UNetPlusPlus:
    with torch.device("meta"):
        return UNetPlusPlus(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 1, 1), {"channels": (32, 64)}, 100_961),
        ((2, 1, 1), {"channels": (32, 64, 128)}, 511_105),
        ((2, 1, 1), {"channels": (32, 64, 128, 256)}, 2_204_961),
        ((2, 1, 1), {}, 9_041_601),
        ((2, 1, 1), {"deep_supervision": True}, 9_041_700),
        ((2, 3, 1), {"deep_supervision": True}, 9_042_276),
        ((3, 1, 2), {"channels": (32, 64)}, 294_082),
        ((3, 1, 2), {}, 26_198_306),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 1, 1), {"channels": (32, 64)}, (96, 96), 488_964_096),
        ((2, 1, 1), {"channels": (32, 64, 128)}, (96, 96), 1_248_657_408),
        ((2, 1, 1), {"channels": (32, 64, 128, 256)}, (96, 96), 2_451_898_368),
        ((2, 1, 1), {}, (96, 96), 4_183_621_632),
        ((2, 1, 1), {}, (512, 512), 119_000_793_088),
        ((2, 1, 1), {"deep_supervision": True}, (96, 96), 4_184_506_368),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    assert count_multiply_accumulates(network, arguments[1], sides) == expected


@pytest.mark.parametrize(
    ("level", "nodes", "count", "macs"),
    [
        (1, 3, 100_961, 488_964_096),
        (2, 6, 511_105, 1_248_657_408),
        (3, 10, 2_204_961, 2_451_898_368),
        (4, 15, 9_041_601, 4_183_621_632),
    ],
)
def test_pruning_keeps_the_published_nodes(level, nodes, count, macs):
    with torch.device("meta"):
        pruned = UNetPlusPlus(2, 1, 1, deep_supervision=True).pruned(level)
        x = torch.zeros(1, 1, 2**level, 2**level)
    executed = []
    for block in [*pruned.encoder, *pruned.nodes]:
        block.register_forward_hook(lambda module, _inputs, _output: executed.append(module))
    pruned(x)
    assert len(executed) == len(set(executed)) == nodes
    assert count_parameters(pruned) == count
    assert count_multiply_accumulates(pruned, 1, (96, 96)) == macs


@pytest.mark.parametrize("dims", [2, 3])
def test_a_pruned_network_gives_the_head_of_the_full_one_bit_for_bit(dims):
    full = tiny(dims, deep_supervision=True, norm="none", channels=(2, 3, 4, 5, 6))
    x = torch.randn(1, 1, *(16, 32, 16)[:dims])
    with torch.no_grad():
        heads = full.train()(x)
        for level in (1, 2, 3, 4):
            pruned = full.pruned(level)
            assert torch.equal(pruned.train()(x), heads[4 - level])
            assert torch.equal(pruned.eval()(x), heads[4 - level])
    assert len(full.nodes) == 10  # pruning works on a copy


def test_only_a_level_with_a_head_can_be_pruned_to():
    with pytest.raises(InputError, match="deep_supervision=True"):
        tiny(2).pruned(1)
    with pytest.raises(InputError, match="levels 1 to 2, got 3"):
        tiny(2, deep_supervision=True).pruned(3)
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(tiny(2).pruned(2)(x), tiny(2)(x))


@pytest.mark.parametrize(("classes", "overlapping"), [(1, False), (3, False), (3, True)])
def test_accurate_mode_is_the_mean_of_probabilities_and_fast_mode_the_last_head(
    classes, overlapping
):
    accurate = tiny(2, 1, classes, deep_supervision=True, overlapping=overlapping)
    fast = tiny(2, 1, classes, deep_supervision=True, inference="fast")
    x = torch.randn(2, 1, 16, 16)

    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        sigmoid = overlapping or classes == 1
        return torch.sigmoid(logits) if sigmoid else torch.softmax(logits, dim=1)

    with torch.no_grad():
        heads = accurate.train()(x)
        mean = torch.stack([probabilities(head) for head in heads]).mean(dim=0)
        torch.testing.assert_close(probabilities(accurate.eval()(x)), mean)
        assert torch.equal(fast.eval()(x), heads[0])
    mean_of_logits = probabilities(torch.stack(heads).mean(dim=0))
    assert (mean_of_logits - mean).abs().max() > 1e-3  # another function


def test_the_mean_of_certain_heads_stays_finite():
    network = tiny(2, 1, 1, deep_supervision=True).eval()
    for head in network.heads:
        torch.nn.init.constant_(head.bias, 500.0)
    logits = network(torch.zeros(1, 1, 8, 8))
    assert torch.isfinite(logits).all()
    assert logits.min() > 100


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"inference": "slow"}, "'accurate' or 'fast'"), ({"channels": (4,)}, "two levels")],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        tiny(2, **options)


@pytest.mark.parametrize("dims", [2, 3])
def test_deep_supervision_is_a_list_in_training_whose_gradients_reach_everything(dims):
    network = tiny(dims, deep_supervision=True).train()
    heads = network(torch.randn(2, 1, *SIDES[dims]))
    assert isinstance(heads, list)
    assert [head.shape for head in heads] == [(2, 2, *SIDES[dims])] * 2
    sum(head.square().mean() for head in heads).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert isinstance(network.eval()(torch.zeros(1, 1, *SIDES[dims])), torch.Tensor)
