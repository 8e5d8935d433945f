"""Which cases a folder is, by what the bundle takes."""

from __future__ import annotations

import pytest

from volseg.bundle import Composition, new_bundle
from volseg.cli.channel_options import Channels, NamedCase
from volseg.cli.segment_inputs import find_cases


@pytest.fixture
def folder(tmp_path):
    """As nnU-Net has images of one channel."""
    images = tmp_path / "imagesTs"
    images.mkdir()
    for case in "ab":
        (images / f"{case}_0000.nii.gz").write_bytes(b"x")
    return images


@pytest.mark.parametrize(
    ("channels", "expected"), [((), ["a_0000", "b_0000"]), (("t1",), ["a", "b"])]
)
def test_one_channel_that_has_a_name_may_be_numbered(tmp_path, folder, channels, expected):
    composition = Composition("unet", "mr", ("lesion",), channels=channels)
    bundle = new_bundle(tmp_path / "lesions", composition)
    found = find_cases([str(folder)], NamedCase(None, {}), bundle, None)
    assert list(found) == expected
    first = folder / "a_0000.nii.gz"
    assert found[expected[0]] == (Channels({"t1": first}) if channels else first)
