"""BiO-Net+ against the authors' counts and as the BiX-Net of the full gene.

Golden numbers: 0.43 M is published (Xiang 2022); all were measured on the authors' model class
(MIT) with the full gene, 3 channels to 1 class; 3D counts are of the same plan.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.bionetplus import SPEC, BiONetPlus
from volseg.networks.bixnet import BiXNet
from volseg.networks.gene import full_gene

SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> BiONetPlus:
    torch.manual_seed(0)
    return BiONetPlus(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> BiONetPlus:
    with torch.device("meta"):
        return BiONetPlus(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 1), {"iterations": 1}, 422_304),
        ((2, 3, 1), {"iterations": 2}, 423_840),
        ((2, 3, 1), {}, 425_376),
        ((2, 3, 1), {"iterations": 4}, 426_912),
        ((2, 3, 1), {"width": 24, "stem_width": 16}, 107_856),
        ((2, 3, 1), {"width": 96, "stem_width": 64}, 1_689_408),
        ((3, 1, 1), {}, 1_264_032),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 3, 1), {}, (64, 64), 531_322_880),
        ((2, 3, 1), {"iterations": 1}, (512, 512), 19_544_539_136),
        ((3, 1, 1), {}, (96, 96, 96), 217_435_940_352),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    assert count_multiply_accumulates(network, arguments[1], sides) == expected


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_the_bixnet_of_the_full_gene(dims):
    plus = tiny(dims).eval()
    torch.manual_seed(0)
    options = {"width": 8, "stem_width": 8, "norm": "instance"}
    searched = BiXNet(dims, 1, 2, gene=full_gene(2, 2), **options).eval()
    assert plus.state_dict().keys() == searched.state_dict().keys()
    x = torch.randn(1, 1, *SIDES[dims])
    assert torch.equal(plus(x), searched(x))


def test_iterations_add_normalisations_and_nothing_else():
    states = [on_meta(2, 3, 1, iterations=t).state_dict() for t in (1, 2, 3)]
    assert states[0].keys() < states[1].keys() < states[2].keys()
    assert all("_norms." in name for name in states[2].keys() - states[0].keys())
    assert len(states[2]) - len(states[1]) == len(states[1]) - len(states[0]) == 16 * 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"iterations": 0}, "decoder stage"), ({"levels": 0}, "decoder stage")],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        tiny(2, **options)
