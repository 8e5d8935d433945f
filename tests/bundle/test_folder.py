"""Finding bundles."""

from __future__ import annotations

import pytest

from volseg.bundle import find_bundle, open_bundle, shipped_bundles
from volseg.errors import BundleError, UnknownNameError


def test_shipped_bundles_are_found_by_name(repository):
    assert shipped_bundles()["hippocampus_unet"] == repository / "bundles" / "hippocampus_unet"
    bundle = open_bundle("hippocampus_unet")
    assert bundle.labels == {"anterior": 1, "posterior": 2}
    assert bundle.in_channels == 1


def test_unknown_names_and_folders_are_answered_with_a_sentence(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'hippocampus_unet'"):
        find_bundle("hipocampus_unet")
    with pytest.raises(BundleError, match="no bundle folder"):
        find_bundle(tmp_path / "absent")
    with pytest.raises(BundleError, match="no configs/metadata.json"):
        find_bundle(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(tmp_path)
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(BundleError, match="does not name its classes"):
        _ = open_bundle(tmp_path).labels
