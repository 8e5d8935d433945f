"""What stands out in any case, whatever it was segmented by."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.geometry import Affine, Grid
from volseg.io import as_image, open_volume
from volseg.quality import QualityReport, check_case, measure_volume

NAMES = {1: "liver", 2: "spleen"}


def report_of(labels: np.ndarray, image: np.ndarray, affine: np.ndarray) -> QualityReport:
    volumes = [as_image(array[np.newaxis], affine) for array in (image, labels)]
    with open_volume(volumes[0]) as opened, open_volume(volumes[1]) as label_map:
        statistics = measure_volume(opened, label_map, names=NAMES)
    return check_case(statistics, Grid(labels.shape, Affine(affine)))


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[2:4, 3:6, 2:5] = 1
    labels[6:8, 3:6, 2:5] = 2
    return labels


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 12, 8)).astype(np.float32)


def test_nothing_stands_out_in_an_ordinary_case(labels, image):
    report = report_of(labels, image, np.eye(4))
    assert report.flags == ()
    assert report.severity is None
    assert {"finite", "contrast", "present", "border"} <= set(report.checked)


def test_a_missing_structure_is_a_note_and_an_empty_result_an_alarm(labels, image):
    [flag] = report_of(np.where(labels == 2, 0, labels), image, np.eye(4)).flags
    assert (flag.code, flag.severity, flag.label) == ("present", "note", "spleen")
    assert flag.sentence == "spleen was not found."
    [flag] = report_of(labels * 0, image, np.eye(4)).flags
    assert (flag.code, flag.severity, flag.label) == ("present", "alarm", None)


def test_sides_that_are_reached_are_the_patients(labels, image):
    labels[0, 3, 2] = 1
    labels[3, 3, 7] = 1
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])
    [flag] = report_of(labels, image, turned).flags
    assert flag.sentence == "liver reaches the edge of the image (right, top)."
    [flag] = report_of(labels, image, np.eye(4)).flags
    assert flag.sentence == "liver reaches the edge of the image (left, top)."
    assert flag.severity == "note"


def test_a_flat_axis_and_pictures(labels, image):
    assert report_of(labels[:, :, 3:4], image[:, :, 3:4], np.eye(4)).flags == ()
    picture = labels[:, :, 3].copy()
    picture[3, -1] = 1
    [flag] = report_of(picture, image[:, :, 3], np.eye(3)).flags
    assert "(high y)" in flag.sentence


def test_voxels_without_a_value_and_an_image_without_contrast(labels, image):
    image[0] = np.nan
    flags = report_of(labels, image, np.eye(4)).flags
    assert [(flag.code, flag.severity) for flag in flags] == [("finite", "warning")]
    assert flags[0].sentence.startswith("10.00% of the voxels of the image")
    flags = report_of(labels, image * 0 + 3, np.eye(4)).flags
    assert [flag.code for flag in flags] == ["contrast", "finite"]
    assert report_of(labels, image * np.nan, np.eye(4)).severity == "alarm"


def test_a_report_goes_through_json(labels, image):
    labels[0, 3, 2] = 1
    report = report_of(labels, image, np.eye(4))
    assert QualityReport.from_json(report.as_json()) == report
    assert report.as_json()["severity"] == "note"
