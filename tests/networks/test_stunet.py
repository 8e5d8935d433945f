"""STU-Net against the authors' counts and against the formula of its paper.

Golden numbers: parameters and multiply-accumulates of the authors' model class (Apache-2.0), 1
channel to 105 classes (14.6, 58.26, 440.30 and 1457.33 M; 0.13, 0.51, 3.81 and 12.60 T are
published); 2D counts are of the same plan.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from volseg.errors import InputError, ShapeError
from volseg.networks.counting import count_parameters
from volseg.networks.stunet import SPEC, STUNet

every_dimension = pytest.mark.parametrize("dims", [2, 3])
SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, **options: object) -> STUNet:
    torch.manual_seed(0)
    return STUNet(dims, 1, 2, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, preset: str, **options: object) -> STUNet:
    with torch.device("meta"):
        return STUNet(dims, 1, 105, **{**SPEC.presets[preset], **options})


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        ("small", 14_596_941, 129_377_107_968),
        ("reference", 58_262_669, 506_243_317_760),
        ("large", 440_302_605, 3_803_510_734_848),
        ("huge", 1_457_326_221, 12_593_403_789_312),
    ],
)
def test_the_published_sizes(preset, parameters, macs):
    network = on_meta(3, preset).train()  # in training all five heads run, as in the count
    assert count_parameters(network) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        heads = network(torch.zeros(1, 1, 128, 128, 128, device="meta"))
    assert counter.get_total_flops() // 2 == macs
    assert [head.shape[2] for head in heads] == [128, 64, 32, 16, 8]


def test_in_2d_and_without_the_supervised_heads():
    assert count_parameters(on_meta(2, "reference")) == 20_550_221
    heads = sum((width + 1) * 105 for width in (64, 128, 256, 512))
    single = on_meta(3, "reference", deep_supervision=False)
    assert count_parameters(single) == 58_262_669 - heads


@every_dimension
def test_it_is_the_formula_of_the_paper(dims):
    torch.manual_seed(0)
    network = STUNet(dims, 2, 3, channels=(4, 6, 6), blocks=2, deep_supervision=True)
    state = network.state_dict()
    for name, value in state.items():  # normalisations and biases that show when mixed up
        if value.ndim == 1:
            torch.nn.init.uniform_(value, 0.5 if name.endswith("weight") else -0.5, 1.5)
    convolve = {2: functional.conv2d, 3: functional.conv3d}[dims]

    def normal(x: torch.Tensor, name: str) -> torch.Tensor:
        axes = tuple(range(2, 2 + dims))
        x = (x - x.mean(axes, keepdim=True)) / (
            x.var(axes, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        shape = (1, -1, *(1,) * dims)
        return x * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)

    def convolution(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return convolve(x, weight, state[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def residual(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        y = normal(convolution(x, f"{name}.residual.0", stride), f"{name}.residual.1")
        y = normal(
            convolution(functional.leaky_relu(y), f"{name}.residual.3"), f"{name}.residual.4"
        )
        if f"{name}.shortcut.weight" in state:
            x = convolution(x, f"{name}.shortcut", stride)
        return functional.leaky_relu(x + y)

    def stage(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        return residual(residual(x, f"{name}.0", stride), f"{name}.1", 1)

    def double(x: torch.Tensor) -> torch.Tensor:
        for axis in range(2, 2 + dims):
            x = x.repeat_interleave(2, axis)
        return x

    x = torch.randn(2, 2, *SIDES[dims])
    with torch.no_grad():
        first = stage(x, "encoder.0")
        second = stage(first, "encoder.1", 2)
        third = stage(second, "encoder.2", 2)
        up = convolution(double(third), "decoder.0.narrow")
        middle = stage(torch.cat([up, second], 1), "decoder.0.blocks")
        up = convolution(double(middle), "decoder.1.narrow")
        last = stage(torch.cat([up, first], 1), "decoder.1.blocks")
        expected = [convolution(last, "heads.1"), convolution(middle, "heads.0")]
        torch.testing.assert_close(network.train()(x), expected, atol=1e-4, rtol=1e-4)
    # The stages of equal width differ in resolution: their shortcut has a convolution too.
    assert "encoder.2.0.shortcut.weight" in state
    assert "encoder.2.1.shortcut.weight" not in state


@every_dimension
def test_evaluation_gives_the_full_resolution(dims):
    network = tiny(dims, deep_supervision=True)
    x = torch.randn(2, 1, *SIDES[dims])
    heads = network.train()(x)
    halves = tuple(side // 2 for side in SIDES[dims])
    assert [head.shape[2:] for head in heads] == [SIDES[dims], halves]
    assert torch.equal(network.eval()(x), heads[0])  # instance norm: no difference in evaluation


def test_sides_are_multiples_of_the_total_stride():
    with pytest.raises(ShapeError, match="multiples of 32, got 64 x 70 x 96: .* to 64 x 96 x 96"):
        on_meta(3, "reference")(torch.zeros(1, 1, 64, 70, 96, device="meta"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": (8,)}, "two stages"),
        ({"blocks": 0}, "one block for each"),
        ({"norm": "layers"}, "unknown norm"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        tiny(3, **options)
