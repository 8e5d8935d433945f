"""The record of a case: what is in it, on disk and back, and what is no record."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg import Segmenter
from volseg.bundle import open_bundle
from volseg.errors import InputError
from volseg.metrics import label_statistics
from volseg.segmenter import read_record, segment_to_files


@pytest.fixture
def made(tiny_bundle: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A record, and the image that was segmented."""
    image = tmp_path / "data" / "images" / "ball0.nii.gz"
    segmenter = Segmenter(tiny_bundle, settings={"backend": "torch"})
    record = segment_to_files(segmenter, image, {"nifti": tmp_path / "out" / "ball0_seg.nii.gz"})
    record.write(tmp_path / "out" / "ball0_record.json")
    assert read_record(tmp_path / "out" / "ball0_record.json") == record.__class__(
        **{**vars(record), "seconds": round(record.seconds, 3)}
    )
    return tmp_path / "out" / "ball0_record.json", image


def test_a_record_says_what_was_measured_and_how_it_was_made(made, tiny_bundle):
    path, image = made
    record = read_record(path)
    labels = nib.load(path.with_name("ball0_seg.nii.gz"))
    values = np.asarray(nib.load(image).dataobj)[np.newaxis]
    names = {1: "anterior", 2: "posterior"}
    array = np.asarray(labels.dataobj)
    expected = label_statistics(array, labels.affine, image=values, names=names)
    assert [row.voxels for row in record.statistics.labels] == [(array == n).sum() for n in (1, 2)]
    for row, one in zip(record.statistics.labels, expected, strict=True):
        assert row.surface_mm2 == pytest.approx(one.surface_mm2)
        assert row.low_mm == one.low_mm
        assert row.intensities[0].percentiles == one.intensities[0].percentiles
    assert record.case == "ball0"
    assert record.image == str(image)
    assert record.files == {"nifti": path.with_name("ball0_seg.nii.gz")}
    assert record.labels == {"anterior": 1, "posterior": 2}
    assert record.settings == {"clean": True, "backend": "torch"}
    [bundle] = record.bundles
    assert (bundle.name, len(bundle.sha256)) == ("tiny_bundle", 64)
    assert record.seconds > 0
    assert record.peak_memory_bytes > 50e6


def test_the_digest_of_a_bundle_changes_with_its_weights_and_configurations(tiny_bundle):
    digests = [open_bundle(tiny_bundle).sha256]
    for file in ("configs/inference.yaml", "models/model.pt"):
        with (tiny_bundle / file).open("ab") as stream:
            stream.write(b"\n")
        digests.append(open_bundle(tiny_bundle).sha256)
    assert len(set(digests)) == 3
    (tiny_bundle / "docs" / "README.md").write_text("other")
    assert open_bundle(tiny_bundle).sha256 == digests[-1]


def test_a_record_has_the_digest_of_what_was_loaded(tiny_bundle, tmp_path):
    segmenter = Segmenter(tiny_bundle, settings={"backend": "torch"})
    expected = open_bundle(tiny_bundle).sha256
    config = tiny_bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text() + "\n")
    image = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    record = segment_to_files(segmenter, image, {"nifti": tmp_path / "ball0_seg.nii.gz"})
    assert [bundle.sha256 for bundle in record.bundles] == [expected]
    assert open_bundle(tiny_bundle).sha256 != expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"case": 3}, "at case"),
        ({"volseg_record": 2}, "at volseg_record"),
        ({"statistics": [{"label": 1}]}, "at statistics / 0"),
        ({"quality": {}}, "at quality"),
        ({"surplus": 1}, "at top level"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(made, change, where):
    path, _ = made
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=where):
        read_record(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as the record"):
        read_record(path)


def test_a_record_names_no_file_outside_its_folder(made):
    path, _ = made
    entry = json.loads(path.read_text())
    entry["files"] = {"nifti": "../../../etc/passwd"}
    path.write_text(json.dumps(entry))
    assert read_record(path).files["nifti"] == path.parent / "passwd"
