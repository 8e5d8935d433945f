"""What stands out in a case: in any, and against what is usual."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.io import as_image, open_volume
from volseg.quality import (
    CaseMeasurements,
    QualityLimits,
    QualityReport,
    check_case,
    learn_limits,
    measure_case,
)

NAMES = {1: "liver", 2: "spleen"}


def measured(labels: np.ndarray, image: np.ndarray, affine: np.ndarray) -> CaseMeasurements:
    volumes = [as_image(array[np.newaxis], affine) for array in (image, labels)]
    with open_volume(volumes[0]) as opened, open_volume(volumes[1]) as label_map:
        return measure_case(opened, label_map, names=NAMES)


def report_of(labels: np.ndarray, image: np.ndarray, affine: np.ndarray) -> QualityReport:
    return check_case(measured(labels, image, affine))


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[2:4, 3:6, 2:5] = 1
    labels[6:8, 3:6, 2:5] = 2
    return labels


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 12, 8)).astype(np.float32)


def ordinary(seed: int, *, spacing: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, image and affine of a case such as all others of its kind."""
    random = np.random.default_rng(seed)
    labels = np.zeros((30, 28, 24), np.uint8)
    x, y = random.integers(0, 3, 2)
    labels[4 + x : 12 + x, 6:14, 6 : 14 + y] = 1
    labels[18 - y : 23, 14:20, 8 : 14 + x] = 2
    image = random.normal(100, 10, labels.shape) + 60 * (labels == 1) + 30 * (labels == 2)
    return labels, image.astype(np.float32), np.diag([spacing, spacing, spacing, 1.0])


@pytest.fixture(scope="module")
def limits() -> QualityLimits:
    return learn_limits([measured(*ordinary(seed)) for seed in range(20)], about={"fold": 0})


def test_nothing_stands_out_in_an_ordinary_case(labels, image):
    report = report_of(labels, image, np.eye(4))
    assert report.flags == ()
    assert report.severity is None
    assert {"finite", "constant", "empty", "presence", "border"} <= set(report.checked)


def test_a_missing_structure_is_a_note_and_an_empty_result_an_alarm(labels, image):
    [flag] = report_of(np.where(labels == 2, 0, labels), image, np.eye(4)).flags
    assert (flag.code, flag.severity, flag.label) == ("presence", "note", "spleen")
    assert flag.sentence == "spleen was not found."
    [flag] = report_of(labels * 0, image, np.eye(4)).flags
    assert (flag.code, flag.severity, flag.label) == ("empty", "alarm", None)


def test_sides_that_are_reached_are_the_patients(labels, image):
    labels[0, 3, 2] = 1
    labels[3, 3, 7] = 1
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])
    [flag] = report_of(labels, image, turned).flags
    assert flag.sentence == "liver reaches the edge of the image (right, superior)."
    [flag] = report_of(labels, image, np.eye(4)).flags
    assert flag.sentence == "liver reaches the edge of the image (left, superior)."
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
    assert [flag.code for flag in flags] == ["constant", "finite"]
    assert report_of(labels, image * np.nan, np.eye(4)).severity == "alarm"


def test_a_report_goes_through_json(labels, image):
    labels[0, 3, 2] = 1
    report = report_of(labels, image, np.eye(4))
    assert QualityReport.from_json(report.as_json()) == report
    assert report.as_json()["severity"] == "note"


def test_components_are_counted_over_the_cuts_between_parts(labels, image):
    labels[2, 3:6, 7] = 1
    labels[8, 6, 5] = 2  # touches its other voxels at a corner
    volumes = [as_image(array[np.newaxis], np.eye(4)) for array in (image, labels)]
    for block_voxels in (1, 100, 10**6):
        with open_volume(volumes[0]) as opened, open_volume(volumes[1]) as label_map:
            found = measure_case(opened, label_map, block_voxels=block_voxels)
        assert found.components == {1: 2, 2: 1}


@pytest.mark.parametrize("seed", [100, 101, 102, 103])
def test_a_case_like_the_others_is_usual(limits, seed):
    report = check_case(measured(*ordinary(seed)), limits, modality="MR")
    assert report.flags == ()
    assert {"volume", "spacing", "contrast", "place", "components"} <= set(report.checked)


def test_what_is_not_usual_is_said_in_sentences(limits):
    labels, image, affine = ordinary(100)
    cases = {
        "spacing": (labels, image, affine * [2, 1, 1, 1]),
        "extent": (labels[:, :, :16], image[:, :, :16], affine),
        "contrast": (labels, 300 - image, affine),
        "place": (labels[:, ::-1], image[:, ::-1], affine),
        "presence": (labels * (labels != 2), image, affine),
        "volume": (np.where(np.indices(labels.shape)[2] > 6, 0, labels), image, affine),
        "border": (np.roll(labels, 7, axis=0), image, affine),
        "components": (labels + (image > 135) * (labels == 0), image, affine),
    }
    for code, case in cases.items():
        report = check_case(measured(*(np.ascontiguousarray(a) for a in case)), limits)
        codes = [flag.code for flag in report.flags]
        assert code in codes, (code, [flag.sentence for flag in report.flags])
        assert report.severity in ("warning", "alarm")
    report = check_case(measured(labels, image, affine * [2, 1, 1, 1]), limits)
    [flag] = [flag for flag in report.flags if flag.code == "spacing"]
    assert flag.severity == "alarm"
    expected = "the spacing from left to right is 2 mm, where 0.9802 to 1.02 mm are usual."
    assert flag.sentence == expected
    assert (flag.value, flag.expected) == (2.0, (0.980199, 1.0202))


def test_sides_that_are_not_usual_are_named(limits):
    labels, image, affine = ordinary(100)
    flags = check_case(measured(np.roll(labels, 7, axis=0), image, affine), limits).flags
    [sentence] = [flag.sentence for flag in flags if flag.code == "border"]
    assert sentence == "spleen reaches the edge of the image (right), which is not usual."


def test_another_modality_or_orientation_is_seen(limits):
    labels, image, affine = ordinary(100)
    case = measured(labels[::-1].copy(), image[::-1].copy(), affine * [-1, 1, 1, 1])
    [flag] = check_case(case, limits).flags
    assert (flag.code, flag.severity, flag.value) == ("orientation", "note", "LAS")
    ct = CaseMeasurements(**{**vars(case), "modality": "CT"})
    flag = check_case(ct, limits, modality="MR").flags[0]
    assert (flag.code, flag.severity) == ("modality", "alarm")
    assert flag.sentence == "the image is CT, but the bundle was trained on MR."


def test_limits_go_through_json_and_what_is_none_is_refused(limits):
    entry = limits.to_json()
    assert QualityLimits.from_json(entry, "quality.json") == limits
    assert entry["cases"] == 20
    for wrong in ({}, {**entry, "measures": [{"kind": "volume"}]}, {**entry, "volseg_quality": 2}):
        with pytest.raises(InputError, match="volseg bundle quality"):
            QualityLimits.from_json(wrong, "quality.json")
    with pytest.raises(InputError, match="from 3 cases: give at least 8"):
        learn_limits([measured(*ordinary(seed)) for seed in range(3)])


def test_what_few_cases_show_is_not_judged_by(limits):
    cases = [measured(*ordinary(seed)) for seed in range(9)]
    without = [ordinary(seed) for seed in range(10, 13)]
    cases += [measured(a * (a != 2), b, c) for a, b, c in without]
    learned = learn_limits(cases)
    presence = {m.label: one.low for m, one in learned.limits.items() if m.kind == "presence"}
    assert presence == {"liver": 1.0, "spleen": 0.0}
