"""What tests of trainings share."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process draw no picture, which takes longer than some of their epochs."""
    monkeypatch.setattr("volseg.training.curves.find_spec", lambda package: None)


@pytest.fixture
def with_curves(no_curves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """But here they do."""
    monkeypatch.setattr("volseg.training.curves.find_spec", find_spec)
