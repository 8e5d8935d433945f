"""The 3D U-Net of 2016 against the figure, the sizes and the parameter count of the paper.

The paper counts 19,069,955 parameters without those of the normalisations. Multiply-accumulates
are measured counts of the published architecture and count convolution kernels only.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError, ShapeError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.unet3d2016 import SPEC, UNet3D2016

every_dimension = pytest.mark.parametrize("dims", [2, 3])


def tiny(dims: int, channels: int = 1, classes: int = 2):
    torch.manual_seed(0)
    return UNet3D2016(dims, channels, classes, **SPEC.presets["tiny"])


def on_meta(sides: tuple[int, ...], in_channels: int = 3, out_channels: int = 3, **options):
    with torch.device("meta"):
        network = UNet3D2016(len(sides), in_channels, out_channels, **options)
        logits = network(torch.zeros(1, in_channels, *sides))
    macs = count_multiply_accumulates(network, in_channels, sides)
    return logits.shape[2:], count_parameters(network), macs


def test_counts_and_sizes_of_the_paper():
    sides, parameters, macs = on_meta((132, 132, 116), norm="none")
    assert sides == (44, 44, 28)
    assert parameters == 19_069_955
    assert macs == 266_731_018_496
    # With batch normalisation: scale and shift of 2336 channels, and no dead biases below them.
    sides, parameters, macs = on_meta((132, 132, 116))
    assert sides == (44, 44, 28)
    assert parameters == SPEC.reference_parameters == 19_069_955 + 2 * 2336 - 2336
    assert macs == 266_731_018_496


@pytest.mark.parametrize(("side", "left"), [(92, 4), (100, 12), (116, 28), (132, 44)])
def test_sizes_in_2d(side, left):
    assert on_meta((side, 92), 1, 2)[0] == (left, 4)


@pytest.mark.parametrize(
    ("sides", "advice"),
    [
        ((128, 132, 116), "for logits of 44 x 44 x 28 pad the input to 132 x 132 x 116."),
        ((96, 64, 92), "for logits of 12 x 4 x 4 pad the input to 100 x 92 x 92."),
    ],
)
def test_a_side_that_does_not_fit_is_refused_with_the_next_that_does(sides, advice):
    with pytest.raises(ShapeError, match="at least 92 that are 4 more than a multiple of 8") as e:
        on_meta(sides)
    assert str(e.value).endswith(advice)


def test_padded_convolutions_keep_the_grid():
    sides, _, macs = on_meta((96, 96, 96), 1, padded=True)
    assert sides == (96, 96, 96)
    assert macs == 824_347_459_584
    with pytest.raises(ShapeError, match="pad the input to 96 x 96 x 104"):
        on_meta((96, 92, 100), 1, padded=True)


@every_dimension
def test_logits_are_those_of_the_padded_network_away_from_its_padding(dims):
    torch.manual_seed(0)
    valid = UNet3D2016(dims, 1, 2, channels=(4, 8, 16)).eval()
    padded = UNet3D2016(dims, 1, 2, channels=(4, 8, 16), padded=True).eval()
    padded.load_state_dict(valid.state_dict())
    # Two voxels more at the start: there the poolings of both networks meet the same voxels.
    x = torch.randn(1, 1, 56, *(48,) * (dims - 1))
    inner = (..., slice(2, 54), *(slice(2, 46),) * (dims - 1))
    centre = (..., slice(22, 34), *(slice(22, 26),) * (dims - 1))
    with torch.no_grad():
        found, expected = valid(x[inner]), padded(x)[centre]
    assert found.shape[2:] == (12, 4, 4)[:dims]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"channels": (8,)}, {"channels": (7, 14)}, {"norm": "rms"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        UNet3D2016(3, 1, 2, **options)
