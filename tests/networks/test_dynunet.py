"""DynUNet against MONAI's own class, whose parts it runs in a plain loop."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks import nets
from torch.nn import functional

from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.networks import build_network
from volseg.networks.counting import count_multiply_accumulates, count_parameters
from volseg.networks.dynunet import SPEC, DynUNet

CHANNELS = (4, 8, 12, 16)


def theirs(dims: int, **options) -> nets.DynUNet:
    torch.manual_seed(0)
    steps = options.pop("strides", [1, 2, 2, 2])
    kernels = options.pop("kernel_size", [3] * 4)
    return nets.DynUNet(dims, 1, 2, kernels, steps, steps[1:], filters=CHANNELS, **options)


def weights_of(monai: nets.DynUNet) -> dict[str, torch.Tensor]:
    return {k: v for k, v in monai.state_dict().items() if not k.startswith("skip_layers.")}


def test_reference_counts():
    with torch.device("meta"):
        network = build_network("dynunet", preset="reference", **SPEC.reference_input)
        monai = nets.DynUNet(3, 1, 2, [3] * 6, [1] + [2] * 5, [2] * 5)
    # MONAI's default widths are the reference's.
    assert count_parameters(network) == count_parameters(monai) == SPEC.reference_parameters
    macs = count_multiply_accumulates(network, 1, SPEC.reference_size)
    assert macs == SPEC.reference_macs
    assert macs / 1e9 == pytest.approx(477.23, abs=0.005)  # measured with MONAI 1.6.1


def test_the_counts_of_nnunet_differ_by_biases_and_heads():
    # nnU-Net's PlainConvUNet of the same plan: 31,195,594.
    widths = (32, 64, 128, 256, 320, 320)
    biases = 2 * sum(widths) + 2 * sum(widths[:-1]) + sum(widths[:-1])
    heads = sum(2 * width + 2 for width in widths[1:-1])
    assert SPEC.reference_parameters + biases + heads == 31_195_594
    assert f"{biases:,} biases" in SPEC.difference
    assert f"{heads:,} values" in SPEC.difference


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("ours", "monai"),
    [
        ({}, {}),
        (
            {"residual": True, "norm": "batch", "activation": "relu", "transposed_bias": True},
            {"res_block": True, "norm_name": "batch", "act_name": "relu", "trans_bias": True},
        ),
    ],
)
def test_the_logits_are_those_of_monai(dims, ours, monai):
    other = theirs(dims, **monai).eval()
    network = DynUNet(dims, 1, 2, channels=CHANNELS, **ours).eval()
    network.load_state_dict(weights_of(other))
    x = torch.randn(1, 1, *(16, 24, 16)[:dims])
    with torch.no_grad():
        assert torch.equal(network(x), other(x))


def test_anisotropic_kernels_and_strides_are_those_of_monai():
    kernels, steps = [(1, 3, 3), 3, 3, 3], [(1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)]
    other = theirs(3, kernel_size=kernels, strides=steps).eval()
    network = DynUNet(3, 1, 2, channels=CHANNELS, kernel_sizes=kernels, strides=steps).eval()
    network.load_state_dict(weights_of(other))
    x = torch.randn(1, 1, 2, 16, 8)
    with torch.no_grad():
        assert torch.equal(network(x), other(x))
    with pytest.raises(ShapeError, match="2 x 8 x 8, got 3 x 16 x 8: pad the input to 4 x 16 x 8"):
        network(torch.zeros(1, 1, 3, 16, 8))


def test_the_list_of_logits_is_what_monai_stacks_at_full_resolution():
    other = theirs(2, deep_supervision=True, deep_supr_num=2).train()
    network = DynUNet(2, 1, 2, channels=CHANNELS, deep_supervision=True).train()
    network.load_state_dict(weights_of(other))
    x = torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        stacked = other(x).unbind(1)
        heads = network(x)
    assert [tuple(head.shape[2:]) for head in heads] == [(16, 24), (8, 12), (4, 6)]
    for head, expected in zip(heads, stacked, strict=True):
        assert torch.equal(functional.interpolate(head, (16, 24)), expected)


def test_a_network_that_has_run_can_be_copied():
    network = DynUNet(2, 1, 2, channels=(4, 8, 16), deep_supervision=True).train()
    x = torch.randn(2, 1, 16, 16)
    first = network(x)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x)[1], first[1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": (4, 8)}, "three stages"),
        ({"channels": (4, 8, 16), "strides": (2, 2, 2)}, "no stride into the first stage"),
        ({"channels": (4, 8, 16), "kernel_sizes": (3, 4, 3)}, "odd kernel sizes"),
        ({"channels": (4, 8, 16), "kernel_sizes": (3, 3)}, "kernel_sizes of dynunet"),
        ({"channels": (4, 8, 16), "kernel_sizes": (1, 1, 1), "strides": (1, 3, 2)}, "strides of"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        DynUNet(2, 1, 2, **options)


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(UnknownNameError, match="did you mean 'instance'"):
        DynUNet(2, 1, 2, norm="instanc")
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        DynUNet(2, 1, 2, activation="rulu")
