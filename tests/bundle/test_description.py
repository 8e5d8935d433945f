"""What other programs are told of a bundle."""

from __future__ import annotations

import json

import pytest

from volseg.bundle import Bundle, describe_bundle, open_bundle, shipped_bundles
from volseg.errors import BundleError
from volseg.io.dicom.segmentations import Code


@pytest.mark.parametrize("name", shipped_bundles())
def test_what_is_told_is_what_the_bundle_says(name):
    bundle = open_bundle(name)
    told = json.loads(json.dumps(describe_bundle(bundle)))
    assert told["name"] == name
    assert len(told["channels"]) == bundle.in_channels
    for segment in bundle.segments:
        entry = told["segments"][segment.name]
        assert (entry["value"], Code(**entry["category"]), Code(**entry["type"])) == (
            segment.number,
            segment.category,
            segment.type,
        )
        assert tuple(Code(**code) for code in entry["modifiers"]) == segment.modifiers
        assert tuple(Code(**code) for code in entry["regions"]) == segment.regions
        assert told["labels"][segment.name] == segment.number
        assert tuple(told["colors"][segment.name]) == segment.shown_color


def test_channels_come_in_the_order_of_the_network(tmp_path):
    def bundle(names: object) -> Bundle:
        image = {"num_channels": 2, "channel_def": names}
        return Bundle(tmp_path, {"network_data_format": {"inputs": {"image": image}}})

    assert bundle({"1": "flair", "0": "t1"}).channels == ["t1", "flair"]
    for damaged in ({"0": "t1"}, {"0": "t1", "2": "flair"}, ["t1", "flair"]):
        with pytest.raises(BundleError, match="does not name its channels"):
            _ = bundle(damaged).channels
