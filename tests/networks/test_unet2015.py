"""The U-Net of 2015 against the figure and the sizes of the paper.

The golden numbers are measured counts of the published architecture (Ronneberger 2015, figure 1);
multiply-accumulates count convolution kernels only.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError, ShapeError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.unet import UNet
from volseg.networks.unet2015 import SPEC, UNet2015

every_dimension = pytest.mark.parametrize("dims", [2, 3])


def tiny(dims: int, channels: int = 1, classes: int = 2):
    torch.manual_seed(0)
    return UNet2015(dims, channels, classes, **SPEC.presets["tiny"])


def on_meta(sides: tuple[int, ...], in_channels: int = 1, out_channels: int = 2, **options):
    with torch.device("meta"):
        network = UNet2015(len(sides), in_channels, out_channels, **options)
        logits = network(torch.zeros(1, in_channels, *sides))
    macs = count_multiply_accumulates(network, in_channels, sides)
    return logits.shape[2:], count_parameters(network), macs


@pytest.mark.parametrize(
    ("side", "left", "macs"),
    [(188, 4, 6_098_393_344), (204, 20, None), (572, 388, 150_428_424_448)],
)
def test_sizes_and_counts_of_the_paper(side, left, macs):
    sides, parameters, found = on_meta((side, side))
    assert sides == (left, left)
    assert parameters == 31_030_658
    assert macs is None or found == macs


@pytest.mark.parametrize(
    ("channels", "classes", "options", "parameters"),
    [
        (1, 1, {}, 31_030_593),
        (3, 2, {}, 31_031_810),
        (1, 2, {"norm": "batch"}, 31_036_546),
        (1, 1, {"channels": (32, 64, 128, 256, 512)}, 7_759_521),
    ],
)
def test_counts_of_its_relatives(channels, classes, options, parameters):
    assert on_meta((188, 188), channels, classes, **options)[1] == parameters


@pytest.mark.parametrize(
    ("sides", "advice"),
    [
        # 196 would pass through the poolings silently and give the 4 x 4 of 188.
        ((196, 188), "for logits of 20 x 4 pad the input to 204 x 188."),
        ((187, 189), "for logits of 4 x 20 pad the input to 188 x 204."),
        ((12, 571), "for logits of 4 x 388 pad the input to 188 x 572."),
    ],
)
def test_a_side_that_does_not_fit_is_refused_with_the_next_that_does(sides, advice):
    with pytest.raises(
        ShapeError, match="at least 188 that are 12 more than a multiple of 16"
    ) as e:
        on_meta(sides)
    assert str(e.value).endswith(advice)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_accepted_sides_are_exactly_those_every_pooling_halves(levels):
    """A side fits when no pooling drops a row on the way down and something is left."""
    network = UNet2015(2, 1, 1, channels=(2,) * levels).eval()
    for side in range(8, 110):
        left, fits = side, True
        for _ in range(levels - 1):
            left -= 4
            fits &= left % 2 == 0
            left //= 2
        for _ in range(levels - 1):
            left = 2 * (left - 4)
        left -= 4
        x = torch.zeros(1, 1, side, side, device="meta")
        if fits and left > 0:
            assert network.to("meta")(x).shape[2:] == (left, left)
            assert side - left == 2 * network.border
        else:
            with pytest.raises(ShapeError):
                network(x)


def test_logits_are_those_of_the_padded_network_away_from_its_padding():
    torch.manual_seed(0)
    valid = UNet2015(2, 1, 2, channels=(4, 8, 16)).eval()
    padded = UNet(2, 1, 2, channels=(4, 8, 16)).eval()
    weights = zip(padded.state_dict(), valid.state_dict().values(), strict=True)
    padded.load_state_dict(dict(weights))
    # Two pixels more at the start: there the poolings of both networks meet the same pixels.
    x = torch.randn(1, 1, 48, 56)
    with torch.no_grad():
        found = valid(x[..., 2:46, 2:54])
        expected = padded(x)[..., 22:26, 22:34]
    assert found.shape[2:] == (4, 12)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only():
    network = UNet2015(2, 1, 2, channels=(4, 8), dropout=0.5)
    x = torch.randn(1, 1, 20, 20)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("options", [{"channels": (8,)}, {"norm": "layers"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        UNet2015(2, 1, 2, **options)
