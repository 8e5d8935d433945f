"""Finding bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.bundle import Bundle, find_bundle, open_bundle, shipped_bundles
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


def test_labels_have_the_codes_of_the_metadata_or_none():
    bundle = Bundle(
        Path("net"),
        {
            "name": "Net",
            "version": "1.2",
            "network_data_format": {
                "outputs": {
                    "pred": {"channel_def": {"0": "background", "2": "liver", "1": "spleen"}}
                }
            },
            "dicom_segments": {
                "liver": {
                    "SegmentedPropertyTypeCodeSequence": {
                        "CodeValue": "10200004",
                        "CodingSchemeDesignator": "SCT",
                        "CodeMeaning": "Liver",
                    }
                }
            },
        },
    )
    spleen, liver = bundle.segments
    assert (spleen.number, spleen.name, spleen.type.meaning) == (1, "spleen", "Tissue")
    assert (liver.number, liver.name, liver.type.value) == (2, "liver", "10200004")
    assert (bundle.algorithm.name, bundle.algorithm.version) == ("Net", "1.2")
    bundle.metadata["dicom_segments"] = {"kidney": {}}
    with pytest.raises(BundleError, match="code kidney, which are no classes"):
        _ = bundle.segments
    bundle.metadata["dicom_segments"] = {"liver": {"AnatomicRegionSequence": {"CodeValue": "1"}}}
    with pytest.raises(BundleError, match="'liver' in the metadata of net"):
        _ = bundle.segments
