"""The sliding window with a backend: same labels as torch, fresh after every change of weights."""

from __future__ import annotations

import torch

from volseg.inference import SlidingWindowInferer
from volseg.networks import build_network


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(
        "unet", spatial_dims=2, in_channels=1, out_channels=2, channels=[4, 8], norm="instance"
    ).eval()


def test_a_backend_gives_the_logits_of_the_network(tmp_path):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    plain = SlidingWindowInferer([32, 32])(image, network)
    converted = SlidingWindowInferer([32, 32], backend="openvino", folder=tmp_path)
    assert torch.allclose(converted(image, network), plain, atol=1e-5)
    assert list((tmp_path / "models" / "converted").glob("openvino-*/entry.json"))


def test_changed_weights_are_noticed(tmp_path):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    inferer = SlidingWindowInferer([32, 32], backend="openvino", folder=tmp_path)
    before = inferer(image, network)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(1.5)
    after = inferer(image, network)
    assert torch.allclose(after, SlidingWindowInferer([32, 32])(image, network), atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_a_network_converts_once(tmp_path):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    inferer = SlidingWindowInferer([32, 32], backend="openvino", folder=tmp_path)
    device = torch.device("cpu")
    first = inferer.predictor(network, 1, device)
    inferer(image, network)
    assert inferer.predictor(network, 1, device) is first
    assert inferer.predictor(torch.sin, 1, device) is torch.sin  # nothing to convert
