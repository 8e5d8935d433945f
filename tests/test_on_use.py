"""Packages that load their names at the first use have all the names they promise."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("package", ["volseg", "volseg.bundle"])
def test_every_name_is_there_and_no_other(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        found = getattr(module, name)
        assert not hasattr(found, "__path__")
        assert getattr(module, name) is found
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'absent'"):
        _ = module.absent
