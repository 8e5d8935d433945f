"""The U-Net against the figures of the paper.

The golden numbers are measured counts of the published architecture (Ronneberger 2015: widths 64
to 1024, transposed 2x2 up-convolutions, biases); multiply-accumulates count convolution kernels
only and scale with the area.
"""

from __future__ import annotations

import pytest
import torch

from volseg.networks import UNet, count_multiply_accumulates, count_parameters


def parameters_and_macs(side: int, in_channels: int, out_channels: int, **options: object):
    with torch.device("meta"):
        network = UNet(2, in_channels, out_channels, **options)
    macs = count_multiply_accumulates(network, in_channels, (side, side))
    return count_parameters(network), macs


@pytest.mark.parametrize(
    ("side", "channels", "classes", "options", "parameters", "macs"),
    [
        (64, 1, 2, {}, 31_030_658, 3_006_005_248),
        (512, 1, 2, {}, 31_030_658, 192_384_335_872),
        (64, 3, 1, {}, 31_031_745, None),
        (96, 1, 1, {"channels": (32, 64, 128, 256, 512)}, 7_759_521, 1_692_205_056),
        # Batch norm makes the convolutions' biases redundant; ours leaves them out.
        (64, 1, 2, {"norm": "batch"}, 31_036_546, 3_006_005_248),
    ],
)
def test_counts(side, channels, classes, options, parameters, macs):
    found = parameters_and_macs(side, channels, classes, **options)
    assert found[0] == parameters
    assert macs is None or found[1] == macs


def test_residual_blocks_add_the_input():
    network = UNet(2, 1, 2, channels=(4, 8), residual=True, norm="none").eval()
    block = network.encoder[0]
    for unit in block.units:
        torch.nn.init.zeros_(unit.convolution.weight)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        expected = torch.relu(block.shortcut(x))
        assert torch.equal(block(x), expected)
    assert expected.any()


def test_dropout_acts_in_training_only():
    network = UNet(2, 1, 2, channels=(8, 16), dropout=0.5)
    x = torch.randn(1, 1, 8, 8)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_interpolated_upsampling_keeps_the_grid():
    network = UNet(3, 1, 2, channels=(4, 8, 8), upsampling="interpolated").eval()
    assert network(torch.zeros(1, 1, 8, 4, 12)).shape == (1, 2, 8, 4, 12)
