"""The three networks called V-Net against measured counts, and one of them against MONAI's.

The counts of ``caffe`` are those of the authors' own configuration, those of ``paper`` follow the
paper's diagram; multiply-accumulates count convolution kernels only.
"""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import VNet as MonaiVNet

from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.vnet import SPEC, VNet

every_dimension = pytest.mark.parametrize("dims", [2, 3])


def tiny(dims: int, channels: int = 1, classes: int = 2):
    torch.manual_seed(0)
    return VNet(dims, channels, classes, **SPEC.presets["tiny"])


@pytest.mark.parametrize(
    ("variant", "parameters", "macs"),
    [
        ("caffe", 61_982_682, 384_638_648_320),
        ("paper", 65_175_314, 502_142_074_880),
        ("monai", 45_597_898, 365_764_280_320),
    ],
)
def test_counts(variant, parameters, macs):
    with torch.device("meta"):
        network = VNet(3, 1, 2, variant=variant)
    assert count_parameters(network) == parameters
    assert count_multiply_accumulates(network, 1, (128, 128, 64)) == macs


def test_the_variant_monai_computes_what_monai_computes():
    torch.manual_seed(0)
    theirs = MonaiVNet(spatial_dims=2, in_channels=1, out_channels=2).eval()
    ours = VNet(2, 1, 2, variant="monai").eval()
    weights = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights.values(), strict=True)))
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_the_first_stage_adds_the_image_to_every_feature_map():
    network = VNet(2, 3, 2, channels=(8, 16)).eval()
    torch.nn.init.zeros_(network.first.units[0].weight)
    taken = []
    network.first.register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        network(x)
        expected = torch.nn.functional.leaky_relu(x[:, [0, 1, 2, 0, 1, 2, 0, 1]], 0.25)
    assert torch.equal(taken[0], expected)


def test_another_normalisation_can_take_the_variant_s_place():
    network = VNet(3, 1, 2, channels=(4, 8), norm="instance")
    assert any(isinstance(module, torch.nn.InstanceNorm3d) for module in network.modules())


def test_a_side_that_does_not_fit_is_refused_with_the_size_to_pad_to():
    with torch.device("meta"):
        network, x = VNet(3, 1, 2), torch.zeros(1, 1, 128, 120, 60)
    with pytest.raises(ShapeError, match="vnet .* pad the input to 128 x 128 x 64"):
        network(x)


@pytest.mark.parametrize("channels", [(8,), (2, 2, 2, 2, 2, 2)])
def test_options_out_of_range_are_refused(channels):
    with pytest.raises(InputError, match="two to 5 stages"):
        VNet(2, 1, 2, channels=channels)
    with pytest.raises(UnknownNameError, match="did you mean 'caffe'"):
        VNet(2, 1, 2, variant="cafe")
