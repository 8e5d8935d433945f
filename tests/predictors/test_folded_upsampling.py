"""Folding an up-convolution into the convolution after it changes nothing but the work."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from volseg.networks import build_network
from volseg.predictors.folded_upsampling import fold_upsampling
from volseg.predictors.idle_padding import without_idle_padding
from volseg.predictors.openvino_backend import runtime

# torch's exporter calls torch's own deprecated functions.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
)


class Decoder(nn.Module):
    """One step of a decoder: features at half the size, brought up, joined, convolved."""

    def __init__(self, dims: int, *, bias: bool = True, between: int = 6, kernel: int = 3) -> None:
        super().__init__()
        convolution, transposed = {
            2: (nn.Conv2d, nn.ConvTranspose2d),
            3: (nn.Conv3d, nn.ConvTranspose3d),
        }[dims]
        self.up = transposed(7, between, 2, 2, bias=bias)
        self.skip = convolution(1, 4, 3, padding=1)
        self.down = convolution(1, 7, 2, stride=2)
        self.after = convolution(between + 4, 5, kernel, padding=kernel // 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.join(self.up(self.down(image)), self.skip(image))

    def join(self, raised: Tensor, skipped: Tensor) -> Tensor:
        return self.after(torch.cat([raised, skipped], dim=1))


class SkipFirst(Decoder):
    def join(self, raised, skipped):
        return self.after(torch.cat([skipped, raised], dim=1))


class UsedTwice(Decoder):
    def join(self, raised, skipped):
        return super().join(raised, skipped) + raised.mean()


class Activated(Decoder):
    def join(self, raised, skipped):
        return super().join(torch.relu(raised), skipped)


class Together(nn.Module):
    """Decoders beside each other: a conversion for all, and the logits of each."""

    def __init__(self, decoders) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(decoders)

    def forward(self, image):
        return tuple(decoder(image) for decoder in self.decoders)


def converted(network: nn.Module, image: Tensor):
    program = torch.export.export(network.eval(), (image,))
    model = runtime().convert_model(without_idle_padding(program))
    model.reshape(list(image.shape))
    return model


def outputs(model, image: Tensor) -> list[np.ndarray]:
    compiled = runtime().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(image.numpy())
    return [found[index] for index in range(len(model.outputs))]


def logits(model, image: Tensor) -> np.ndarray:
    return outputs(model, image)[0]


CASES = list(itertools.product((Decoder, SkipFirst), (True, False), (1, 3, 5)))


@pytest.mark.parametrize(("dims", "sides"), [(2, (12, 8)), (3, (8, 12, 6))])
def test_logits_are_the_same_up_to_the_faces(dims, sides):
    torch.manual_seed(0)
    network = Together(kind(dims, bias=bias, kernel=kernel) for kind, bias, kernel in CASES)
    image = torch.randn(1, 1, *sides)
    model = converted(network, image)
    assert fold_upsampling(model, runtime().opset15) == len(CASES)
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert "Concat" not in kinds
    kernels = [
        tuple(node.input(1).get_shape()[2:])
        for node in model.get_ordered_ops()
        if node.get_type_name() == "ConvolutionBackpropData"
    ]
    expected = [(kernel + 1,) * dims for _, _, kernel in CASES]
    assert sorted(kernels) == sorted(expected)
    with torch.no_grad():
        right = network(image)
    for case, found, wanted in zip(CASES, outputs(model, image), right, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=str(case))


def test_a_convolution_of_two_that_are_brought_up_folds_both():
    class Twins(Decoder):
        def forward(self, image):
            low = self.down(image)
            return self.join(self.up(low), self.other(low))

    torch.manual_seed(0)
    network = Twins(3)
    network.other = nn.ConvTranspose3d(7, 4, 2, 2)
    image = torch.randn(1, 1, 8, 6, 10)
    model = converted(network, image)
    assert fold_upsampling(model, runtime().opset15) == 2
    with torch.no_grad():
        right = network(image)
    np.testing.assert_allclose(logits(model, image), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (UsedTwice, {}),  # the larger features are needed anyway
        (Activated, {}),  # not only sums lie between
        (Decoder, {"between": 2}),  # nothing is saved
    ],
)
def test_what_cannot_be_folded_or_saves_nothing_stays(kind, options):
    network = kind(3, **options)
    image = torch.randn(1, 1, 8, 8, 8)
    model = converted(network, image)
    before = [node.get_type_name() for node in model.get_ordered_ops()]
    assert fold_upsampling(model, runtime().opset15) == 0
    assert [node.get_type_name() for node in model.get_ordered_ops()] == before


def test_u_nets_are_folded_at_each_level():
    networks = {
        "monai": BasicUNet(spatial_dims=3, features=(4, 4, 8, 8, 8, 4)),
        "volseg": build_network(
            "unet", spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16)
        ),
    }
    image = torch.randn(1, 1, 32, 16, 16)
    found = {}
    for name, network in networks.items():
        model = converted(network, image)
        # MONAI's pads by nothing: that is no gather.
        assert "Gather" not in {node.get_type_name() for node in model.get_ops()}
        found[name] = fold_upsampling(model, runtime().opset15)
        with torch.no_grad():
            right = network(image)
        np.testing.assert_allclose(logits(model, image), right, rtol=1e-3, atol=1e-4)
    assert found == {"monai": 4, "volseg": 2}
