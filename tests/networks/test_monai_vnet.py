"""MONAI's V-Net from its stages against MONAI's V-Net as a whole."""

from __future__ import annotations

import pytest
import torch
from monai.networks import nets

from volseg.errors import InputError
from volseg.networks import build_network
from volseg.networks.counting import count_multiply_accumulates, count_parameters
from volseg.networks.monai_vnet import SPEC, MonaiVNet


# Counts of MONAI 1.6.1's own class.
@pytest.mark.parametrize(
    ("dims", "classes", "parameters"), [(3, 2, 45_597_898), (3, 1, 45_593_892), (2, 2, 9_358_730)]
)
def test_parameter_counts(dims, classes, parameters):
    with torch.device("meta"):
        assert count_parameters(MonaiVNet(dims, 1, classes)) == parameters


def test_reference_counts_are_exact():
    with torch.device("meta"):
        network = build_network("monai_vnet", preset="reference", **SPEC.reference_input)
    assert count_parameters(network) == SPEC.reference_parameters
    assert count_multiply_accumulates(network, 1, SPEC.reference_size) == SPEC.reference_macs
    assert SPEC.reference_macs == 365_764_280_320


def test_the_weights_of_monai_fit_in_their_order_and_give_its_logits():
    torch.manual_seed(0)
    theirs = nets.VNet(spatial_dims=2, in_channels=2, out_channels=3).eval()
    ours = MonaiVNet(2, 2, 3).eval()
    weights = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    x = torch.randn(1, 2, 16, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_dropout_acts_where_it_does_in_monai():
    def probabilities(network):
        dropouts = (torch.nn.Dropout2d, torch.nn.Dropout3d)
        return [module.p for module in network.modules() if isinstance(module, dropouts)]

    assert probabilities(MonaiVNet(2, 1, 2)) == probabilities(nets.VNet(spatial_dims=2))
    assert set(probabilities(MonaiVNet(2, 1, 2, dropout=0.0))) == {0.0}


def test_three_channels_are_filled_up_with_an_empty_one():
    torch.manual_seed(0)
    three = MonaiVNet(2, 3, 2, channels=8, levels=1).eval()
    four = MonaiVNet(2, 4, 2, channels=8, levels=1).eval()
    four.load_state_dict(three.state_dict())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(three(x), four(torch.cat([x, torch.zeros(1, 1, 8, 8)], dim=1)))


@pytest.mark.parametrize(
    ("channels", "options", "sentence"),
    [
        (17, {}, "set channels to at least 17"),
        (1, {"levels": 5}, "1 to 4 levels"),
        (1, {"activation": "eluu"}, "did you mean 'elu'"),
    ],
)
def test_options_out_of_range_are_refused_with_a_sentence(channels, options, sentence):
    with pytest.raises(InputError, match=sentence):
        MonaiVNet(2, channels, 2, **options)
