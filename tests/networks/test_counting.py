"""Counts against arithmetic done by hand, and every network against the counts it states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from volseg.networks import (
    build_network,
    count_multiply_accumulates,
    count_parameters,
    list_networks,
    network_spec,
)


def on_meta(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).to("meta")


def test_parameters_are_trainable_values_and_shared_ones_count_once():
    convolution = nn.Conv2d(8, 8, 3)
    network = nn.Sequential(convolution, nn.BatchNorm2d(8), convolution)
    assert count_parameters(network) == 8 * 8 * 9 + 8 + 2 * 8


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (10, 12), 10 * 12 * 3 * 8 * 9),
        (nn.Conv3d(3, 8, 3, stride=2, padding=1), (4, 6, 8), 2 * 3 * 4 * 3 * 8 * 27),
        (nn.Conv2d(3, 3, 3, groups=3), (10, 12), 8 * 10 * 3 * 9),
        # At the input positions, not at the four times as many output positions.
        (nn.ConvTranspose2d(3, 8, 2, stride=2), (10, 12), 10 * 12 * 3 * 8 * 4),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 5)), (2, 2), 3 * 4 * 5),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (4, 4), 0),
    ],
)
def test_multiply_accumulates_of_single_layers(layer, size, expected):
    assert count_multiply_accumulates(on_meta(layer), 3, size) == expected


@pytest.mark.parametrize("mode", [True, False])
def test_counting_keeps_the_mode_and_counts_an_evaluation_unless_told(mode):
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 2, 1)
            self.second = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [self.first(x), self.second(x)] if self.training else [self.first(x)]

    network = TwoHeads().to("meta").train(mode)
    assert count_multiply_accumulates(network, 3, (4, 4)) == 16 * 6
    assert count_multiply_accumulates(network, 3, (4, 4), training=True) == 2 * 16 * 6
    assert network.training == mode


@pytest.mark.parametrize("name", list_networks())
def test_the_reference_preset_has_the_stated_counts(name):
    spec = network_spec(name)
    with torch.device("meta"):
        network = build_network(name, preset="reference", **spec.reference_input)
    channels = spec.reference_input["in_channels"]
    assert count_parameters(network) == spec.reference_parameters
    macs = count_multiply_accumulates(network, channels, spec.reference_size)
    assert macs == spec.reference_macs
