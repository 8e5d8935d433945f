"""The mean of probabilities, against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from volseg.errors import InputError, ShapeError
from volseg.networks import NetworkEnsemble, ProbabilityMean


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_the_logits_are_those_of_the_mean_of_probabilities(kind):
    logits = [5 * torch.randn(2, 3, 4, 5) for _ in range(3)]
    mean = ProbabilityMean(kind)
    for part in logits:
        mean.add(part)
    if kind == "classes":
        found, expected = mean.logits().softmax(1), sum(part.softmax(1) for part in logits) / 3
    else:
        found, expected = mean.logits().sigmoid(), sum(part.sigmoid() for part in logits) / 3
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_a_single_channel_is_the_foreground(kind):
    """Its softmax would be 1 whatever the networks say."""
    mean = ProbabilityMean(kind)
    for value in (2.0, -1.0):
        mean.add(torch.full((1, 1, 4), value))
    expected = torch.tensor([2.0, -1.0]).sigmoid().mean()
    torch.testing.assert_close(mean.logits().sigmoid(), expected.expand(1, 1, 4))


def test_networks_that_are_sure_of_different_things_leave_finite_logits():
    """A mean of probabilities in float32 would be 0 for the third class, its logarithm infinite."""
    mean = ProbabilityMean("classes")
    mean.add(torch.tensor([[300.0, 0.0, 0.0]]))
    mean.add(torch.tensor([[0.0, 300.0, 0.0]]))
    logits = mean.logits()
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.5, 0.5, 0.0]]))


def test_an_ensemble_is_a_network_with_the_weights_of_its_members():
    members = [nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)]
    ensemble = NetworkEnsemble(members).eval()
    assert set(ensemble.state_dict()) == {
        f"networks.{member}.{name}" for member in (0, 1) for name in ("weight", "bias")
    }
    image = torch.randn(1, 1, 3, 3)
    expected = sum(member(image).softmax(1) for member in members) / 2
    torch.testing.assert_close(ensemble(image).softmax(1), expected)
    alone = NetworkEnsemble(members[:1]).eval()
    assert torch.equal(alone(image), members[0](image))
    with pytest.raises(InputError, match="not trained"):
        ensemble.train()(image)


def test_what_makes_no_ensemble_is_refused():
    with pytest.raises(InputError, match="at least one network"):
        NetworkEnsemble([])
    with pytest.raises(InputError, match="'classes' or 'regions'"):
        NetworkEnsemble([nn.Identity()], kind="labels")
    mean = ProbabilityMean("classes")
    mean.add(torch.zeros(1, 2, 3))
    with pytest.raises(ShapeError, match="same classes"):
        mean.add(torch.zeros(1, 3, 3))
