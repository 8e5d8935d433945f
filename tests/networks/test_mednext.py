"""MedNeXt: the counts of its authors' code, and MONAI's logits where the two agree."""

from __future__ import annotations

import pytest
import torch
from monai.networks import nets

from volseg.errors import InputError
from volseg.networks import build_network
from volseg.networks.counting import count_multiply_accumulates, count_parameters
from volseg.networks.mednext import SPEC, MedNeXt


def size(preset: str, **options) -> MedNeXt:
    with torch.device("meta"):
        return build_network("mednext", preset=preset, **SPEC.reference_input, **options)


# Measured with the authors' code, whose parameters have one element more that computes nothing.
@pytest.mark.parametrize(
    ("preset", "kernel", "parameters", "giga_macs"),
    [
        ("small", 3, 5_550_915, 127.2),
        ("reference", 3, 10_526_307, 166.667),
        ("medium", 3, 17_548_963, 243.6),
        ("large", 3, 61_779_267, 494.5),
        ("small", 5, 5_980_547, 165.5),
        ("reference", 5, 10_955_939, 204.9),
        ("medium", 5, 18_260_835, 303.7),
        ("large", 5, 62_992_899, 558.9),
    ],
)
def test_counts_of_the_authors(preset, kernel, parameters, giga_macs):
    network = size(preset, kernel_size=kernel)
    assert count_parameters(network) == parameters - 1
    macs = count_multiply_accumulates(network, 1, (128, 128, 128))
    assert macs / 1e9 == pytest.approx(giga_macs, abs=0.05)


def test_reference_counts_are_exact():
    network = size("reference")
    assert count_parameters(network) == SPEC.reference_parameters
    # 166.667 G of the authors' code, to the last unit as counted here.
    macs = count_multiply_accumulates(network, 1, (128, 128, 128))
    assert macs == SPEC.reference_macs == 166_667_137_024


def test_monai_differs_where_the_specification_says():
    with torch.device("meta"):
        base = nets.MedNeXtB(spatial_dims=3, in_channels=1, out_channels=2)
    assert f"MONAI's MedNeXt-B has {count_parameters(base):,}" in SPEC.difference


@pytest.mark.parametrize("dims", [2, 3])
def test_the_small_network_is_that_of_monai_bit_for_bit(dims):
    torch.manual_seed(0)
    theirs = nets.MedNeXtS(spatial_dims=dims, in_channels=1, out_channels=2).eval()
    ours = MedNeXt(dims, 1, 2, **SPEC.presets["small"]).eval()
    weights = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    x = torch.randn(1, 1, *(32, 16, 16)[:dims])
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_the_list_of_logits_is_the_tuple_of_monai():
    torch.manual_seed(0)
    theirs = nets.MedNeXt(
        spatial_dims=2,
        init_filters=4,
        kernel_size=5,
        deep_supervision=True,
        use_residual_connection=True,
        blocks_down=(1, 1),
        blocks_bottleneck=1,
        blocks_up=(1, 1),
    ).train()
    ours = MedNeXt(
        2,
        1,
        2,
        channels=4,
        blocks=(1, 1, 1, 1, 1),
        expansion_ratios=(2, 2, 2, 2, 2),
        kernel_size=5,
        deep_supervision=True,
    ).train()
    # MONAI keeps the lower heads deepest first, after the one at full resolution.
    theirs.out_blocks = torch.nn.ModuleList(reversed(theirs.out_blocks))
    weights = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    theirs.out_blocks = torch.nn.ModuleList(reversed(theirs.out_blocks))
    x = torch.randn(1, 1, 16, 24)
    heads, expected = ours(x), theirs(x)
    assert [tuple(head.shape[2:]) for head in heads] == [(16, 24), (8, 12), (4, 6)]
    assert all(torch.equal(head, other) for head, other in zip(heads, expected, strict=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"blocks": (1, 1), "expansion_ratios": (2, 2)}, "odd number of at least three stages"),
        ({"blocks": (1, 1, 1)}, "as many expansion ratios"),
        ({"kernel_size": 4}, "odd kernel_size"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        MedNeXt(2, 1, 2, **options)
