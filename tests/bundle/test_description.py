"""What other programs are told of a bundle."""

from __future__ import annotations

import json

import pytest

from volseg.bundle import Bundle, describe_bundle, open_bundle, shipped_bundles
from volseg.errors import BundleError
from volseg.io.dicom.segmentations import coded_segment
from volseg.label_colors import label_color


@pytest.mark.parametrize("name", shipped_bundles())
def test_segments_are_read_back_from_what_is_told(name):
    bundle = open_bundle(name)
    told = json.loads(json.dumps(describe_bundle(bundle)))
    assert told["name"] == name
    assert len(told["channels"]) == bundle.in_channels
    again = [
        coded_segment(
            value,
            label,
            told["segments"][label] | {"recommendedDisplayRGBValue": told["colors"][label]},
            "told",
        )
        for label, value in told["labels"].items()
    ]
    assert [segment.shown_color for segment in again] == [
        label_color(segment.number) for segment in again
    ]
    for ours, theirs in zip(bundle.segments, again, strict=True):
        assert (ours.number, ours.category, ours.type) == (
            theirs.number,
            theirs.category,
            theirs.type,
        )
        assert (ours.modifiers, ours.regions) == (theirs.modifiers, theirs.regions)


def test_channels_come_in_the_order_of_the_network(tmp_path):
    def bundle(names: object) -> Bundle:
        image = {"num_channels": 2, "channel_def": names}
        return Bundle(tmp_path, {"network_data_format": {"inputs": {"image": image}}})

    assert bundle({"1": "flair", "0": "t1"}).channels == ["t1", "flair"]
    for damaged in ({"0": "t1"}, {"0": "t1", "2": "flair"}, ["t1", "flair"]):
        with pytest.raises(BundleError, match="does not name its channels"):
            _ = bundle(damaged).channels
