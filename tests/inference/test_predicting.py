"""The sliding window with a backend: same labels as torch, fresh after every change of weights."""

from __future__ import annotations

import pytest
import torch

from volseg.inference import SlidingWindowInferer, sliding_window
from volseg.networks import NetworkEnsemble, build_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where networks are converted to, each of them once."""
    return tmp_path_factory.mktemp("converted")


def small_network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_network(
        "unet", spatial_dims=2, in_channels=1, out_channels=2, channels=[4, 8], norm="instance"
    ).eval()


def test_a_backend_gives_the_logits_of_the_network(folder):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    plain = SlidingWindowInferer([32, 32])(image, network)
    converted = SlidingWindowInferer([32, 32], backend="openvino", folder=folder)
    assert torch.allclose(converted(image, network), plain, atol=1e-5)
    assert list((folder / "models" / "converted").glob("openvino-*/entry.json"))


def test_changed_weights_are_noticed(folder):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    inferer = SlidingWindowInferer([32, 32], backend="openvino", folder=folder)
    before = inferer(image, network)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(1.5)
    after = inferer(image, network)
    assert torch.allclose(after, SlidingWindowInferer([32, 32])(image, network), atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_a_network_converts_once(folder):
    network, image = small_network(), torch.rand(1, 1, 40, 40)
    inferer = SlidingWindowInferer([32, 32], backend="openvino", folder=folder)
    device = torch.device("cpu")
    (first,) = inferer.predictors(network, 1, device)
    inferer(image, network)
    assert inferer.predictors(network, 1, device)[0] is first
    assert inferer.predictors(torch.sin, 1, device) == [torch.sin]  # nothing to convert


def test_a_network_is_not_taken_for_one_that_had_its_address(monkeypatch):
    monkeypatch.setattr(sliding_window, "id", lambda _: 0, raising=False)  # memory is used again
    inferer, image = SlidingWindowInferer([32, 32], backend="torch"), torch.rand(1, 1, 40, 40)
    for seed in (0, 1):
        network = small_network(seed)
        expected = SlidingWindowInferer([32, 32])(image, network)
        assert torch.allclose(inferer(image, network), expected, atol=1e-5)


def test_the_networks_of_an_ensemble_are_converted_each_on_its_own(tmp_path):
    members, image = [small_network(seed) for seed in (0, 1)], torch.rand(1, 1, 40, 40)
    # One tile holds the whole image: what the mean of probabilities is can be written down.
    inferer = SlidingWindowInferer([40, 40], backend="openvino", folder=tmp_path)
    predictors = inferer.predictors(NetworkEnsemble(members), 1, torch.device("cpu"))
    assert len(predictors) == 2
    whole = SlidingWindowInferer([40, 40])
    expected = sum(whole(image, member).softmax(1) for member in members) / 2
    found = inferer(image, NetworkEnsemble(members).eval())
    torch.testing.assert_close(found.softmax(1), expected, atol=1e-5, rtol=0)
