"""A shipped bundle gets weights, values, figures and the record of a trained copy."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import ship
from volseg.bundle import build_parts, composition_of, open_bundle, write_metadata
from volseg.choosing import record_cleaning
from volseg.choosing.cleaning import CLEANING_TABLE
from volseg.errors import InputError
from volseg.networks import read_weights
from volseg.postprocess import DecisionTable, KeepLargest, read_decision_table


@pytest.fixture
def trained(tiny_bundle, tmp_path):
    """A copy with other weights, as training leaves it."""
    folder = tmp_path / "trained"
    shutil.copytree(tiny_bundle, folder)
    weights = read_weights(folder / "models" / "model.pt")
    torch.save({name: value + 1 for name, value in weights.items()}, folder / "models/model.pt")
    bundle = open_bundle(folder)
    about = {"training": {"fold": "all"}, "eval_metrics": {"dice_anterior": 0.5}}
    write_metadata(bundle, {**bundle.metadata, **about})
    record = {"status": "finished", "seconds": 12.0, "command": "volseg train /home/me/data"}
    run = folder / "runs" / "foldall"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_weights_figures_and_record_are_taken_over(tiny_bundle, trained):
    (tiny_bundle / "configs" / "quality.json").write_text('{"volseg_quality": 1}')
    version = open_bundle(tiny_bundle).metadata["version"]
    shipped = ship.ship(trained, tiny_bundle, reason="trained on all")
    assert shipped.metadata["version"] != version
    assert shipped.metadata["changelog"][shipped.metadata["version"]] == "trained on all"
    assert shipped.metadata["training"] == {"fold": "all"}
    assert shipped.metadata["eval_metrics"] == {"dice_anterior": 0.5}
    assert not (tiny_bundle / "configs" / "quality.json").exists()
    record = (tiny_bundle / ship.RECORD).read_text(encoding="utf-8")
    assert json.loads(record) == {"status": "finished", "seconds": 12.0}
    theirs, ours = (
        read_weights(folder / "models" / "model.pt") for folder in (trained, tiny_bundle)
    )
    assert all(ours[name].dtype == torch.float16 for name in ours)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value.to(torch.float16))


def test_what_is_known_of_the_weights_before_goes(tiny_bundle, trained):
    before = open_bundle(tiny_bundle)
    figures = {"eval_metrics": {"dice_anterior": 0.9}, "cross_validation": {"folds": 3}}
    write_metadata(before, {**before.metadata, **figures})
    names = ["decision.json", "tuning.json", "postprocessing.json"]
    for name in names:
        (tiny_bundle / "configs" / name).write_text("{}")
    unmeasured = open_bundle(trained)
    kept = {name: one for name, one in unmeasured.metadata.items() if name != "eval_metrics"}
    write_metadata(unmeasured, kept)
    shipped = ship.ship(trained, tiny_bundle, reason="trained on all")
    assert not figures.keys() & shipped.metadata.keys()
    assert not any((tiny_bundle / "configs" / name).exists() for name in names)


def test_rules_of_cleaning_come_with_the_weights(tiny_bundle, trained):
    rules = (KeepLargest(classes=(1,), count=1),)
    table = DecisionTable(rules, metric="dice", cases=2, margin=0.0, worse_share=0.1)
    record_cleaning(trained, table)
    shipped = ship.ship(trained, tiny_bundle, reason="cleaned")
    assert read_decision_table(tiny_bundle / CLEANING_TABLE).rules == rules
    build_parts(shipped)  # which reads the table


def test_the_record_is_of_the_run_that_gave_the_weights(tiny_bundle, trained):
    bundle = open_bundle(trained)
    write_metadata(bundle, {**bundle.metadata, "training": {"fold": 0}})
    shutil.copytree(trained / "runs" / "foldall", trained / "runs" / "fold0")
    record = {"status": "finished", "seconds": 3.0}
    (trained / "runs" / "fold0" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    ship.ship(trained, tiny_bundle, reason="fold 0")
    assert json.loads((tiny_bundle / ship.RECORD).read_text(encoding="utf-8")) == record
    untold = {name: one for name, one in bundle.metadata.items() if name != "training"}
    write_metadata(bundle, untold)
    with pytest.raises(InputError, match="holds 2 runs"):
        ship.ship(trained, tiny_bundle, reason="which?")


def test_weights_of_another_network_or_without_a_run_are_refused(
    tiny_bundle, trained, repository, monkeypatch
):
    kept = (tiny_bundle / "models" / "model.pt").read_bytes()
    with pytest.raises(InputError, match="its weights are for another bundle"):
        ship.ship(repository / "bundles" / "membrane_unet", tiny_bundle, reason="no")
    shutil.rmtree(trained / "runs")
    with pytest.raises(InputError, match="holds no run that has finished"):
        ship.ship(trained, tiny_bundle, reason="no")
    assert (tiny_bundle / "models" / "model.pt").read_bytes() == kept
    bundle = open_bundle(tiny_bundle)
    assert composition_of(bundle.metadata, bundle.name).network == "unet"
