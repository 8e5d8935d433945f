"""MONAI's networks behind our contract: measured counts, and MONAI's logits, bit for bit."""

from __future__ import annotations

import pytest
import torch
from monai.networks import nets
from torch.utils.flop_counter import FlopCounterMode

from tests.networks.sides import sides_of
from volseg.errors import InputError, UnknownNameError
from volseg.networks import build_network, network_spec
from volseg.networks.counting import count_multiply_accumulates, count_parameters

every_dimension = pytest.mark.parametrize("dims", [2, 3])


def on_meta(name: str, image_channels: int, classes: int, **options):
    with torch.device("meta"):
        return build_network(
            name, spatial_dims=3, in_channels=image_channels, out_channels=classes, **options
        )


# Counts of MONAI 1.6.1's own classes, multiply-accumulates of their kernels alone.
@pytest.mark.parametrize(
    ("name", "channels", "classes", "options", "parameters", "giga_macs"),
    [
        ("monai_unet", 1, 2, {}, 1_979_610, 1.48),
        ("monai_unet", 1, 2, {"preset": "residual"}, 4_808_917, 5.12),
        ("attentionunet", 1, 2, {}, 5_909_130, 41.36),
        ("segresnet", 1, 2, {}, 1_176_186, 15.42),
        ("segresnet", 4, 3, {"channels": 32}, 18_798_627, 246.6),
    ],
)
def test_counts_at_96_voxels(name, channels, classes, options, parameters, giga_macs):
    network = on_meta(name, channels, classes, **options)
    assert count_parameters(network) == parameters
    macs = count_multiply_accumulates(network, channels, (96, 96, 96))
    assert macs / 1e9 == pytest.approx(giga_macs, rel=4e-3)


@pytest.mark.parametrize("name", ["monai_unet", "attentionunet", "segresnet", "swinunetr"])
def test_the_reference_counts_are_exact(name):
    spec = network_spec(name)
    with torch.device("meta"):
        network = build_network(name, preset="reference", **spec.reference_input)
    assert count_parameters(network) == spec.reference_parameters
    channels = spec.reference_input["in_channels"]
    macs = count_multiply_accumulates(network, channels, spec.reference_size)
    assert macs == spec.reference_macs


@pytest.mark.parametrize(
    ("options", "channels", "classes", "parameters", "giga_macs"),
    [
        ({}, 1, 14, 62_187_296, 307.1),
        ({"channels": 24}, 4, 3, 15_705_621, 78.8),
        ({"residual_stages": True}, 1, 14, 72_762_656, 333.0),
    ],
)
def test_swin_unetr_counts_without_the_products_of_attention(
    options, channels, classes, parameters, giga_macs
):
    network = on_meta("swinunetr", channels, classes, **options)
    assert count_parameters(network) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, channels, 96, 96, 96, device="meta"))
    operations = counter.get_flop_counts()["Global"]
    layers = sum(operations.values()) - operations[torch.ops.aten.bmm]
    assert layers / 2e9 == pytest.approx(giga_macs, rel=2e-3)


MONAI_ITSELF = [
    (
        "monai_unet",
        {"channels": (4, 8, 16)},
        lambda dims: nets.UNet(dims, 1, 2, channels=(4, 8, 16), strides=(2, 2)),
    ),
    (
        "monai_unet",
        {
            "channels": (4, 8),
            "residual_units": 2,
            "kernel_size": 5,
            "norm": "batch",
            "activation": "leakyrelu",
            "bias": False,
        },
        lambda dims: nets.UNet(
            dims,
            1,
            2,
            channels=(4, 8),
            strides=(2,),
            kernel_size=5,
            up_kernel_size=5,
            num_res_units=2,
            norm="batch",
            act=("leakyrelu", {"negative_slope": 0.01}),
            bias=False,
        ),
    ),
    (
        "attentionunet",
        {"channels": (4, 8, 16)},
        lambda dims: nets.AttentionUnet(dims, 1, 2, channels=(4, 8, 16), strides=(2, 2)),
    ),
    (
        "segresnet",
        {"blocks": (1, 2, 1), "decoder_blocks": (2, 1)},
        lambda dims: nets.SegResNet(
            dims, in_channels=1, out_channels=2, blocks_down=(1, 2, 1), blocks_up=(2, 1)
        ),
    ),
    (
        "segresnet",
        {"channels": 4, "blocks": (1, 1), "norm": "batch", "upsampling": "transposed"},
        lambda dims: nets.SegResNet(
            dims,
            init_filters=4,
            in_channels=1,
            out_channels=2,
            norm="batch",
            blocks_down=(1, 1),
            blocks_up=(1,),
            upsample_mode="deconv",
        ),
    ),
    (
        "swinunetr",
        {"channels": 12, "blocks": (2, 1, 1, 1), "window_size": 4},
        lambda dims: nets.SwinUNETR(
            in_channels=1,
            out_channels=2,
            feature_size=12,
            depths=(2, 1, 1, 1),
            window_size=4,
            spatial_dims=dims,
        ),
    ),
]


@every_dimension
@pytest.mark.parametrize(("name", "options", "monai"), MONAI_ITSELF)
def test_the_logits_are_those_of_monai(name, options, monai, dims):
    torch.manual_seed(0)
    theirs = monai(dims).eval()
    ours = build_network(name, spatial_dims=dims, in_channels=1, out_channels=2, **options).eval()
    ours.network.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 1, *sides_of(name, dims))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("monai_unet", {"channels": (8,)}, "two levels"),
        ("monai_unet", {"kernel_size": 2}, "odd kernel_size"),
        ("monai_unet", {"norm": "instanc"}, "did you mean 'instance'"),
        ("attentionunet", {"channels": (1, 2)}, "two feature maps"),
        ("segresnet", {"channels": 12}, "multiple of 8"),
        ("segresnet", {"blocks": (1, 2), "decoder_blocks": (1, 1)}, "one decoder level fewer"),
        ("segresnet", {"upsampling": "cubic"}, "unknown upsampling"),
        ("swinunetr", {"channels": 20}, "multiple of 12"),
        ("swinunetr", {"heads": (5, 5, 5, 5)}, "heads that divide"),
        ("swinunetr", {"blocks": (2, 2)}, "four stages"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(name, options, sentence):
    with pytest.raises(InputError, match=sentence):
        build_network(name, spatial_dims=2, in_channels=1, out_channels=2, **options)


def test_an_unknown_activation_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        build_network("segresnet", spatial_dims=2, in_channels=1, out_channels=2, activation="rulu")
