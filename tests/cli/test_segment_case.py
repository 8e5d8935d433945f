"""What becomes of a single case, whatever else lies in the folder of its results."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from volseg.cli.main import main
from volseg.cli.segment_case import CaseRunner
from volseg.io import as_image, write_image, write_segmentation


def test_a_slice_that_says_where_it_lies_is_shown_with_its_labels(tmp_path):
    """MHA does, and the picture that holds the labels cannot."""
    values = np.random.default_rng(0).normal(100, 10, (30, 20)).astype(np.float32)
    image = as_image(values, np.diag([-0.5, -0.5, 1.0]))
    labels = np.zeros(values.shape, np.uint8)
    labels[5:12, 4:9] = 1
    files = {"nifti": tmp_path / "slice_seg.png", "preview": tmp_path / "slice_preview.png"}
    write_image(image, tmp_path / "slice.mha")
    write_segmentation(labels, files["nifti"], like=image)
    segmenter = SimpleNamespace(bundle=SimpleNamespace(spatial_dims=2), labels={"cell": 1})
    runner = CaseRunner(segmenter, {}, *[None] * 5)
    runner._write_previews(tmp_path / "slice.mha", files)
    with Image.open(files["preview"]) as picture:
        assert picture.size == (1200, 500)


def test_results_of_other_channels_are_not_replaced(capfd, tmp_path, two_channel_bundle):
    images = two_channel_bundle.parent / "data" / "images"
    words = ["segment", "--case", "patient", "-o", tmp_path / "out", "-b", two_channel_bundle]
    for name in ("t1", "flair"):
        words += ["--channel", f"{name}={images / name / 'ball0.nii.gz'}"]

    def code_of_a_run() -> int:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return end.value.code or 0

    assert code_of_a_run() == 0
    path = tmp_path / "out" / "patient_record.json"
    record = json.loads(path.read_text())
    record["image"] |= {"path": "/archive/ct.nii.gz", "channels": {"ct": "/archive/ct.nii.gz"}}
    path.write_text(json.dumps(record))
    capfd.readouterr()
    assert code_of_a_run() == 2
    assert "are those of /archive/ct.nii.gz, not of" in capfd.readouterr().err
