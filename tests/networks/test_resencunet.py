"""The residual encoder U-Net against measured counts of nnU-Net's own network.

Besides the counts, logits were compared once with dynamic-network-architectures 0.4.4 (nnU-Net's
package) under equal weights, in 2D, 3D and with strides (1, 2, 2): they are equal bit for bit.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError, ShapeError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.resencunet import SPEC, ResEncUNet

every_dimension = pytest.mark.parametrize("dims", [2, 3])
SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, channels: int = 1, classes: int = 2, **options: object):
    torch.manual_seed(0)
    return ResEncUNet(dims, channels, classes, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, **options):
    with torch.device("meta"):
        return ResEncUNet(dims, 1, 2, **options)


@pytest.mark.parametrize(
    ("stages", "parameters", "macs"),
    [(5, 62_809_928, None), (6, 102_349_770, 717_403_193_344), (7, 141_889_612, None)],
)
def test_counts(stages, parameters, macs):
    network = on_meta(
        3,
        channels=(32, 64, 128, 256, 320, 320, 320)[:stages],
        blocks=(1, 3, 4, 6, 6, 6, 6)[:stages],
        deep_supervision=True,  # nnU-Net always has the heads
    )
    assert count_parameters(network) == parameters
    if macs is not None:
        assert count_multiply_accumulates(network, 1, (128, 128, 128)) == macs


@every_dimension
def test_deep_supervision_is_a_list_in_training_and_a_tensor_in_evaluation(dims):
    network = tiny(dims, deep_supervision=True)
    x = torch.randn(2, 1, *SIDES[dims])
    heads = network.train()(x)
    halves = tuple(side // 2 for side in SIDES[dims])
    assert [head.shape[2:] for head in heads] == [SIDES[dims], halves]
    network.eval()
    assert torch.equal(network(x), heads[0])  # instance norm: no difference in evaluation


def test_kernels_and_strides_follow_the_spacing():
    network = on_meta(
        3,
        kernel_sizes=[(1, 3, 3), (1, 3, 3), 3, 3, 3, 3],
        strides=[1, (1, 2, 2), 2, 2, 2, (1, 2, 2)],
        deep_supervision=True,
    )
    heads = network(torch.zeros(1, 1, 16, 160, 192, device="meta"))
    assert heads[0].shape[2:] == (16, 160, 192)
    assert heads[1].shape[2:] == (16, 80, 96)
    assert heads[-1].shape[2:] == (2, 10, 12)
    with pytest.raises(ShapeError, match=r"multiples of 8 x 32 x 32, .* pad .* to 24 x 160 x 192"):
        network(torch.zeros(1, 1, 17, 160, 190, device="meta"))


def test_a_block_adds_its_input_before_the_last_activation():
    network = tiny(2, norm="none").eval()
    block = network.encoder[1][0]
    torch.nn.init.zeros_(block.residual[-1][0].weight)
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        pooled = torch.nn.functional.avg_pool2d(x, 2)
        expected = torch.nn.functional.leaky_relu(block.shortcut[1](pooled), 0.01)
        assert torch.equal(block(x), expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": (8,), "blocks": (1,)}, "two stages"),
        ({"channels": (8, 16)}, "at least one block for each"),
        ({"decoder_convolutions": 0}, "decoder convolution"),
        ({"strides": [1, 2, 2]}, "strides of resencunet"),
        ({"strides": [2] * 6}, "first stage of stride 1"),
        ({"kernel_sizes": [(3, 3)] * 6}, "kernel_sizes of resencunet"),
        ({"kernel_sizes": [2] * 6}, "odd kernels"),
        ({"norm": "layers"}, "unknown norm"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        on_meta(3, **options)
