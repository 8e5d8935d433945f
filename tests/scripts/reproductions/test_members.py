"""A member that is trained is found again, if it is the one that is asked for."""

from __future__ import annotations

import json
import shutil

import pytest

from reproductions.members import train_member
from volseg.errors import InputError


def test_only_a_training_with_the_same_settings_is_taken(tiny_bundle, tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(tiny_bundle, folder)
    record = {
        "status": "finished",
        "bundle": {"name": "tiny", "version": "0.1.0"},
        "data": {"training_cases": 4},
        "settings": {"epochs": 1, "seconds": None, "fold": 0, "patch": [16, 16, 16], "seed": 0},
        "machine": {"device": "CPU"},
        "seconds": 1.0,
        "epochs": 1,
        "steps": 4,
    }
    run = folder / "runs" / "fold0"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")

    def trained(**settings):
        return train_member(tiny_bundle, tmp_path / "data", folder, fold=0, settings=settings)

    assert trained(epochs=1, seed=0).about["epochs"] == 1
    for settings, difference in (
        ({"epochs": 2}, "epochs was 1 and is 2"),
        ({}, "epochs was 1 and is 2"),  # the bundle's own
        ({"epochs": 1, "seed": 1}, "seed was 0 and is 1"),
    ):
        with pytest.raises(InputError, match=rf"other settings \({difference}\)"):
            trained(**settings)
