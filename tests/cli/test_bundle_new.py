"""``volseg bundle new`` and ``volseg bundle recipes``."""

from __future__ import annotations

import json

import pytest
import yaml

from volseg.cli.main import main


def run(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_a_bundle_is_made_from_a_recipe(tmp_path, capfd):
    folder = tmp_path / "[ct]" / "liver"  # no style of the terminal
    options = ("--network", "vnet", "--dims", 3, "--recipe", "ct", "--labels", "liver, tumour")
    assert run("bundle", "new", folder, *options, "--set", "spacing=[1.5, 1.5, 2.0]") == 0
    assert capfd.readouterr().out.strip() == str(folder)
    train = yaml.safe_load((folder / "configs" / "train.yaml").read_text())
    assert train["spacing"] == [1.5, 1.5, 2.0]
    assert train["network_def"]["name"] == "vnet"
    assert train["classes"] == 3


def test_structures_that_contain_each_other_are_regions(tmp_path, capfd):
    words = ("bundle", "new", tmp_path / "tumour", "--network", "unet", "--recipe", "mr")
    regions = ("--region", "whole=1,2,3", "--region", "core=2,3", "--region", "active=3")
    assert run(*words, *regions, "--ignore", 255) == 0
    train = yaml.safe_load((tmp_path / "tumour" / "configs" / "train.yaml").read_text())
    assert (train["out_channels"], train["classes"], train["ignore"]) == (3, 4, 255)
    assert train["regions"] == [[1, 2, 3], [2, 3], [3]]
    capfd.readouterr()
    assert run("bundle", "list", tmp_path / "tumour", "--json") == 0
    told = json.loads(capfd.readouterr().out)[-1]
    assert told["labels"] == {"whole_rest": 1, "core_rest": 2, "active": 3}
    assert told["regions"] == {"whole": [1, 2, 3], "core": [2, 3], "active": [3]}
    for mistake, sentence in {
        (): "needs the names of its classes (--labels liver,tumour)",
        ("--region", "whole=1,b"): "expected NAME=VALUES",
        ("--region", "a=1", "--region", "a=2"): "--region a is given twice",
        ("--region", "a=1,3"): "the region a holds 3",
    }.items():
        assert run(*words[:2], tmp_path / "wrong", *words[3:], *mistake) == 2
        assert sentence in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--recipe", "ct", "--dims", "2"), "is for 3D images, but --dims 2"),
        (("--recipe", "cat"), "did you mean 'ct'"),
        (("--recipe", "ct", "--set", "epochs"), "expected NAME=VALUE"),
        (("--recipe", "ct", "--set", "patch=[1,"), "expected NAME=VALUE"),
        (("--recipe", "ct", "--loss", "unetplus"), "did you mean"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(tmp_path, capfd, words, sentence):
    folder = tmp_path / "new"
    assert run("bundle", "new", folder, "--network", "unet", "--labels", "liver", *words) == 2
    assert sentence in " ".join(capfd.readouterr().err.split())
    assert not folder.exists()


def test_the_recipes_are_listed(capfd):
    assert run("bundle", "recipes", "--json") == 0
    found = {recipe["name"]: recipe for recipe in json.loads(capfd.readouterr().out)}
    assert found["ct"]["spatial_dims"] == 3
    assert found["fluorescence"]["spatial_dims"] == 2
    assert run("bundle", "recipes") == 0
    assert "mr_crop" in capfd.readouterr().out
