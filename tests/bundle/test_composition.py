"""Bundles composed of the recipe book: every piece fits, every shipped bundle is one of them."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from volseg.bundle import (
    Composition,
    compose,
    composition_of,
    find_recipe,
    list_recipes,
    network_data_format,
    open_bundle,
    shipped_bundles,
)
from volseg.bundle.recipe_book import recipe_book
from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.networks import list_networks, network_spec

RECIPES = [recipe.name for recipe in list_recipes()]
TRAINABLE = [
    name
    for name in list_networks()
    if not network_spec(name).valid and not network_spec(name).training_only
]


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_every_shipped_bundle_is_what_would_be_composed_today(name):
    bundle = open_bundle(name)
    composition = composition_of(bundle.metadata, name)
    for file, text in compose(composition).items():
        assert (bundle.folder / "configs" / file).read_text(encoding="utf-8") == text, file
    assert bundle.metadata["network_data_format"] == network_data_format(composition)
    assert list(bundle.labels) == list(composition.labels)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", list_networks())
def test_every_network_has_a_piece_that_builds_it(name, dims):
    text = (recipe_book() / "networks" / f"{name}_{dims}d.yaml").read_text(encoding="utf-8")
    parser = ConfigParser({**yaml.safe_load(text), "in_channels": 2, "out_channels": 4})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert parser["network_def::name"] == name
    assert parser["network_def::spatial_dims"] == dims
    assert 10_000 < sum(p.numel() for p in network.parameters()) < 20_000_000
    # What training weighs the heads by fits the heads.
    if not network_spec(name).valid and not network_spec(name).training_only:
        with torch.device("meta"):
            heads = network.train()(torch.empty(2, 2, *[64] * dims))
        heads = heads if isinstance(heads, list) else [heads]
        weights = parser["head_weights"]
        assert len(weights) == len(heads)
        assert sum(weights) == pytest.approx(1, abs=1e-3)
        assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", ["unet", "bixnet"])
def test_every_recipe_gives_complete_configurations(recipe, network):
    labels = ("nerve", "vessel")
    texts = compose(Composition(network=network, recipe=recipe, labels=labels))
    assert set(texts) == {"train.yaml", "inference.yaml", "evaluate.yaml", "logging.conf"}
    inference, train, evaluate = (
        yaml.safe_load(texts[f"{name}.yaml"]) for name in ("inference", "train", "evaluate")
    )
    for content, text in (
        (train, texts["train.yaml"]),
        (inference, texts["inference.yaml"]),
        # evaluate.yaml is laid over inference.yaml
        ({**inference, **evaluate}, texts["evaluate.yaml"]),
    ):
        referred = set(re.findall(r"(?<![\w.])@([a-z_]+)", re.sub(r"#.*", "", text)))
        assert referred - content.keys() == set()
    assert train["preparation"] == inference["preparation"]
    assert train["network_def"] == inference["network_def"]
    assert train["label_reading"] == evaluate["label_reading"]
    assert train["classes"] == inference["classes"] == 3
    assert "# background, nerve, vessel" in texts["inference.yaml"]


def test_values_of_the_user_win_over_the_recipe_and_keep_their_comment():
    composition = Composition(
        network="unet",
        recipe="mr_crop",
        labels=("liver",),
        values={"patch": [32, 40, 48], "widths": [8, 16], "head_weights": [1.0]},
    )
    texts = compose(composition)
    line = "patch: [32, 40, 48]                      # voxels the network sees at once"
    assert line in texts["train.yaml"].splitlines()
    assert line in texts["inference.yaml"].splitlines()
    # 60 is the recipe's own, where the piece says 100.
    assert yaml.safe_load(texts["train.yaml"])["epochs"] == 60
    assert find_recipe("mr_crop").values["epochs"] == 60
    assert yaml.safe_load(texts["inference.yaml"])["widths"] == [8, 16]
    assert network_data_format(composition)["inputs"]["image"]["spatial_shape"] == [32, 40, 48]
    assert network_data_format(composition)["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "liver",
    }


def test_what_does_not_exist_is_answered_with_the_nearest():
    def composing(**changes):
        parts = {"network": "unet", "recipe": "mr", "labels": ("liver",), **changes}
        return compose(Composition(**parts))

    with pytest.raises(UnknownNameError, match="did you mean 'mr_crop'"):
        composing(recipe="mr_crops")
    with pytest.raises(UnknownNameError, match="did you mean 'unet'"):
        composing(network="u-net")
    with pytest.raises(UnknownNameError, match="did you mean 'dice_cross_entropy'"):
        composing(loss="dice_crossentropy")
    with pytest.raises(UnknownNameError, match="did you mean 'epochs'"):
        composing(values={"epoch": 3})
    # Code and references of the pieces are not values.
    with pytest.raises(UnknownNameError, match="device"):
        composing(values={"device": "$exit()"})
    with pytest.raises(UnknownNameError, match="cropping"):
        composing(values={"cropping": 3})


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ((), "at least one class"),
        (("liver", ""), "cannot name a class"),
        (("liver\nrun: [$print(1)]",), "cannot name a class"),
        (("liver", "background"), "cannot name a class"),
        (("liver", "liver"), "not all different"),
    ],
)
def test_classes_need_names_of_their_own(labels, sentence):
    with pytest.raises(InputError, match=sentence):
        compose(Composition(network="unet", recipe="mr", labels=labels))


@pytest.mark.parametrize(
    "values",
    [
        {"in_channels": "$__import__('os').getcwd()"},
        {"patch": "@spacing"},
        {"patch": 64},
        {"patch": None},
        {"epochs": "ten"},
        {"epochs": 1.5},
        {"resume": 1},
        {"spacing": [1, 1, "$1"]},
        {"class_ratios": 3},
    ],
)
def test_values_of_another_kind_are_refused(values):
    (name,) = values
    kind = "a (value such as|whole number|list of numbers)"
    with pytest.raises(InputError, match=f"{name} is .*expected {kind}"):
        compose(Composition(network="unet", recipe="mr", labels=("liver",), values=values))


@pytest.mark.parametrize("value", [1e-5, 2e-4, 1e16, 3, 0.25])
def test_numbers_are_read_back_as_they_were_given(value):
    values = {"learning_rate": value, "class_ratios": [1, 2], "single_objects": None}
    composition = Composition(network="unet", recipe="mr", labels=("liver",), values=values)
    train = yaml.safe_load(compose(composition)["train.yaml"])
    assert train["learning_rate"] == value
    assert train["class_ratios"] == [1, 2]


@pytest.mark.parametrize("folder", ["/scratch/7e3/prepared", "C:\\data\\8a-4e12", 'of "5e1"'])
def test_texts_are_read_back_as_they_were_given(folder):
    values = {"prepared": folder, "learning_rate": 1e-5}
    composition = Composition(network="unet", recipe="mr", labels=("liver",), values=values)
    train = yaml.safe_load(compose(composition)["train.yaml"])
    assert (train["prepared"], train["learning_rate"]) == (folder, 1e-5)


@pytest.mark.parametrize(("network", "reason"), [("unet2015", "valid"), ("wnet", "of its own")])
def test_networks_that_no_recipe_can_train_are_refused(network, reason):
    with pytest.raises(InputError, match=f"{network} .*{reason}.*build_network"):
        compose(Composition(network=network, recipe="electron_microscopy", labels=("membrane",)))


def test_a_bundle_of_somebody_else_has_no_composition():
    with pytest.raises(BundleError, match="do not say"):
        composition_of({"version": "1.0.0"}, "other")
