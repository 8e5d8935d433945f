"""A shipped bundle gets weights, values, figures and the record of a trained copy."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import ship
from volseg.bundle import composition_of, open_bundle, write_metadata
from volseg.errors import InputError
from volseg.networks import read_weights


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
