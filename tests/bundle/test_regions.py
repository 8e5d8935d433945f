"""Nested structures in the words of a bundle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from volseg.bundle import Composition, compose, make_regions, network_data_format, value_names
from volseg.bundle.ensemble_members import Member
from volseg.bundle.regions import Region
from volseg.errors import InputError
from volseg.losses import DiceCrossEntropyLoss, UNet3PlusLoss, UNetPlusPlusLoss
from volseg.networks import list_networks, network_spec

COMPOSABLE = [
    name
    for name in list_networks()
    if not network_spec(name).valid and not network_spec(name).training_only
]
TUMOUR = make_regions({"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]})
COMPOSITION = Composition(
    network="unet",
    recipe="mr",
    labels=tuple(value_names(TUMOUR).values()),
    regions=TUMOUR,
    ignore=255,
)


def test_a_region_is_written_as_what_it_alone_holds():
    assert [region.label for region in TUMOUR] == [1, 2, 3]
    assert value_names(TUMOUR) == {1: "whole_rest", 2: "core_rest", 3: "enhancing"}
    apart = make_regions({"liver": [2], "kidneys": [1]})
    assert value_names(apart) == {1: "kidneys", 2: "liver"}
    overlapping = make_regions({"a": [1, 2], "b": [3, 2]})
    assert value_names(overlapping) == {1: "a_rest", 2: "label_2", 3: "b"}


@pytest.mark.parametrize(
    ("values", "labels", "sentence"),
    [
        ({"a": []}, None, "at least one"),
        ({"a": [0, 1]}, None, "from 1 on"),
        ({"a": [1, 1]}, None, "different whole numbers"),
        ({"a": [1], "b": [1, 2]}, None, r"every value of the region a \(1\) is one of a later"),
        ({"a": [1, 2], "b": [2]}, [2, 2], "a would be written as 2; expected one of its values"),
        ({"a": [1, 2], "b": [2]}, [1], "2 regions"),
    ],
)
def test_regions_that_a_label_map_cannot_hold_are_refused(values, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        make_regions(values, labels)


def test_the_network_has_a_channel_a_region_and_the_label_map_their_labels():
    texts = compose(COMPOSITION)
    train, inference = (yaml.safe_load(texts[f"{name}.yaml"]) for name in ("train", "inference"))
    assert (train["classes"], train["out_channels"], train["ignore"]) == (4, 3, 255)
    assert train["regions"] == inference["regions"] == [[1, 2, 3], [2, 3], [3]]
    assert (inference["out_channels"], inference["region_labels"]) == (3, [1, 2, 3])
    assert inference["exclusive"] is False
    assert train["head_loss"]["_target_"] == "volseg.losses.RegionLoss"
    pred = network_data_format(COMPOSITION)["outputs"]["pred"]
    assert pred["num_channels"] == 3
    assert pred["channel_def"]["1"] == "whole_rest"
    assert pred["regions"] == {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert pred["ignore"] == 255


def network_of(inference):
    torch.manual_seed(0)
    return ConfigParser(yaml.safe_load(inference)).get_parsed_content("network_def")


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *((name, "pictures") for name in COMPOSABLE if name != "bixnet_supernet"),  # draws paths
        ("unetplusplus", "mr"),
    ],
)
def test_every_network_gives_in_evaluation_the_sigmoids_that_training_gives(name, recipe):
    # Narrow where there is a choice.
    piece = yaml.safe_load(compose(replace(COMPOSITION, network=name, ignore=None))["train.yaml"])
    values = {"widths": [8] * len(piece["widths"])} if "widths" in piece else {}
    composition = replace(COMPOSITION, network=name, recipe=recipe, ignore=None, values=values)
    network = network_of(compose(composition)["inference.yaml"])
    with torch.no_grad():
        for layer in network.modules():  # certain of nothing: softmax would make that 1 in 3
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d) and layer.out_channels == 3:
                layer.bias = torch.nn.Parameter(torch.full((3,), -6.0))
        images = torch.rand(2, 1, *([64, 64] if recipe == "pictures" else [16, 16, 16]))
        found = network.eval()(images).sigmoid()
        network.training = True  # its layers stay in evaluation: normalisation and dropout differ
        heads = network(images)
    heads = [head.sigmoid() for head in (heads if isinstance(heads, list) else [heads])]
    averages = name == "unetplusplus"
    assert len(heads) > 1 or not averages
    expected = torch.stack(heads).mean(dim=0) if averages else heads[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (None, DiceCrossEntropyLoss),
        ("region_unetplusplus", UNetPlusPlusLoss),
        ("region_unet3plus", UNet3PlusLoss),
    ],
)
def test_every_loss_has_its_way_with_regions(loss, expected):
    train = yaml.safe_load(compose(replace(COMPOSITION, loss=loss))["train.yaml"])
    found = ConfigParser(train).get_parsed_content("head_loss")
    assert isinstance(found.loss, expected)
    logits = torch.randn(1, 3, 12, 12, 12, requires_grad=True)
    target = torch.randint(0, 4, (1, 1, 12, 12, 12))
    target[..., :2] = 255
    found(logits, target).backward()
    assert logits.grad[..., 2:].any()


def test_every_network_of_an_ensemble_is_told_of_regions():
    alone = replace(COMPOSITION, network="unetplusplus")
    member = Member.of("unetplusplus", 3, yaml.safe_load(compose(alone)["inference.yaml"]))
    # As ensembles were composed that did not tell.
    values = {name: value for name, value in member.values.items() if name != "overlapping"}
    old = replace(member, values=values)
    texts = compose(replace(alone, members=(member, old)))
    network = network_of(texts["inference.yaml"])
    assert network.kind == "regions"
    assert [one.sigmoid for one in network.networks] == [True, True]


def test_the_metadata_tell_what_regions_a_bundle_was_composed_of():
    assert Composition.from_metadata(COMPOSITION.as_metadata()) == COMPOSITION


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": ("whole_rest", "core_rest")}, "whole holds 3; expected .* from 1 to 2"),
        ({"labels": ("a", "b", "c", "d")}, "no region holds 4"),
        ({"ignore": 3}, "the value to ignore is 3"),
        ({"ignore": 70000}, "at most 65535"),
        ({"regions": (Region("background", (1, 2, 3), 1),)}, "cannot name a class"),
        ({"loss": "unetplusplus"}, "choose region_unetplusplus"),
        ({"loss": "region_unet3plus", "regions": ()}, "choose unet3plus"),
        ({"recipe": "fluorescence"}, "makes one class of all label values"),
        ({"recipe": "pictures"}, "255, would be read as class 1"),
    ],
)
def test_regions_and_classes_that_do_not_go_together_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        compose(replace(COMPOSITION, **changes))
