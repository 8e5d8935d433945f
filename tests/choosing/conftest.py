"""A bundle that computes without being converted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest


@pytest.fixture
def torch_bundle(tiny_bundle: Path) -> Path:
    """The tiny bundle, version 0.1.1: computed by torch, trained mirrored along x."""
    from volseg.bundle import composition_of, open_bundle, recompose

    bundle = open_bundle(tiny_bundle)
    composition = composition_of(bundle.metadata, "")
    values = {**composition.values, "backend": "torch", "mirror_axes": [0]}
    return recompose(bundle, replace(composition, values=values), "torch").folder


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process draw no picture, which takes longer than some of their epochs."""
    monkeypatch.setattr("volseg.training.curves.find_spec", lambda package: None)
