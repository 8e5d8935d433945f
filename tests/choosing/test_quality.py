"""What is usual is learned from labels and from predictions, and becomes part of the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from volseg.bundle import Bundle, open_bundle, verify_bundle
from volseg.choosing import learn_quality, record_quality
from volseg.choosing.quality import as_predicted
from volseg.cli.main import main
from volseg.errors import InputError
from volseg.quality import Measure
from volseg.segmenter import Segmenter, segment_to_files


@pytest.fixture
def listed_twice(torch_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle, its six cases listed twice: enough to learn from."""
    path = torch_bundle / "configs" / "datalist.json"
    datalist = json.loads(path.read_text())
    again = [{**case, "case": case["case"] + "b"} for case in datalist["training"]]
    datalist["training"] += again
    path.write_text(json.dumps(datalist))
    return torch_bundle


def test_limits_become_part_of_a_bundle_and_cases_are_judged_by_them(listed_twice, tmp_path):
    before = open_bundle(listed_twice)
    assert before.quality is None
    digest = before.sha256
    steps: list[tuple[int, int]] = []
    limits = learn_quality(listed_twice, tmp_path / "data", progress=lambda *s: steps.append(s))
    assert steps[-1] == (12, 12)
    assert dict(limits.about) == {
        "cases": 12,
        "training_labels": 8,
        "held_out_predictions": 4,
        "fold": 0,
    }
    assert limits.limits[Measure("spacing", axis=2)].median == 1
    assert limits.orientations == ("LPS",)
    after = record_quality(listed_twice, limits)
    assert after.quality == limits
    assert after.metadata["version"] != before.metadata["version"]
    assert "what is usual" in after.metadata["changelog"][after.metadata["version"]]
    assert after.sha256 != digest
    assert all(check.passed for check in verify_bundle(listed_twice))
    record = segment_to_files(
        Segmenter(listed_twice),
        tmp_path / "data" / "images" / "ball0.nii.gz",
        {"nifti": tmp_path / "out.nii.gz"},
        entropy=tmp_path / "entropy.nii.gz",
    )
    assert {"volume", "spacing", "extent"} <= set(record.quality.checked)
    assert set(record.files) == {"nifti", "entropy"}


def test_the_command_and_too_few_cases(torch_bundle, tmp_path, capfd):
    with pytest.raises(InputError, match="from 6 cases"):
        learn_quality(torch_bundle, tmp_path / "data")
    with pytest.raises(SystemExit) as end:
        main(["bundle", "quality", str(torch_bundle), "--data", str(tmp_path / "data")])
    assert end.value.code == 2
    assert "give at least 8" in capfd.readouterr().err
    assert not (torch_bundle / "configs" / "quality.json").exists()


def test_labels_are_taken_as_a_perfect_network_would_write_them():
    def bundle(**outputs) -> Bundle:
        pred = {"channel_def": {"0": "background", "1": "a", "3": "b"}, **outputs}
        return Bundle(Path("b"), {"network_data_format": {"outputs": {"pred": pred}}})

    labels = np.array([[0, 1, 2, 3, 4]], np.uint8)
    assert np.array_equal(as_predicted(bundle(), labels), labels)
    regions = {"whole": [1, 2, 3, 4], "core": [3, 4]}
    assert as_predicted(bundle(regions=regions), labels).tolist() == [[0, 1, 1, 3, 3]]
    assert as_predicted(bundle(regions=regions, ignore=4), labels) is None
    assert as_predicted(bundle(regions=regions, ignore=9), labels) is not None
