"""Calibration of files of probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from volseg.errors import InputError
from volseg.evaluation import CasePair, calibrate_files
from volseg.io import as_image, probabilities_target, write_segmentation
from volseg.metrics import CalibrationTally

LABELS = {"anterior": 1, "posterior": 2}


def write_case(folder, name, suffix, *, shape=(6, 5, 4), seed=0, classes=3):
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(size=(classes, *shape)), axis=0).astype(np.float32)
    labels = random.integers(0, classes, shape).astype(np.uint8)
    affine = np.diag([*[1.5] * len(shape), 1.0])
    image = as_image(np.zeros((1, *shape), np.float32), affine)
    picture = len(shape) == 2
    reference = folder / f"{name}{'.png' if picture else '.nii.gz'}"
    write_segmentation(labels, reference, like=image)
    like = reference if picture else image
    with probabilities_target(
        folder / f"{name}_probabilities{suffix}", like=like, classes=classes
    ) as target:
        target[(slice(None),) * (len(shape) + 1)] = probabilities
    return CasePair(name, reference, reference), probabilities, labels


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".zarr"])
def test_files_give_what_the_arrays_give(tmp_path, suffix):
    first = write_case(tmp_path, "a", suffix)
    second = write_case(tmp_path, "b", suffix, shape=(3, 7, 4), seed=1)
    found = calibrate_files([first[0], second[0]], tmp_path, labels=LABELS)
    tally = CalibrationTally([0, 1, 2])
    for _, probabilities, labels in (first, second):
        tally.add(probabilities, labels)
    expected = tally.result()
    assert found.cases == ["a", "b"]
    assert list(found.curves) == ["label", "foreground", "anterior", "posterior"]
    assert found.calibration.brier == pytest.approx(expected.brier)
    assert found.curves["label"].expected_error == pytest.approx(expected.label.expected_error)
    np.testing.assert_array_equal(found.curves["posterior"].true, expected.channels[2].true)


def test_pictures_are_calibrated_too(tmp_path):
    pair, probabilities, labels = write_case(tmp_path, "a", ".zarr", shape=(9, 7), classes=2)
    found = calibrate_files([pair], tmp_path, labels={"membrane": 1})
    tally = CalibrationTally([0, 1])
    tally.add(probabilities, labels)
    assert list(found.curves) == ["label", "membrane"]
    assert found.calibration.brier == pytest.approx(tally.result().brier)


def test_a_case_without_probabilities_does_not_stop_the_others(tmp_path):
    pair, _, _ = write_case(tmp_path, "a", ".nii")
    lone = CasePair("b", pair.prediction, pair.reference)
    found = calibrate_files([pair, lone], tmp_path, labels=LABELS)
    assert found.cases == ["a"]
    assert "no b_probabilities" in found.failures["b"]
    with pytest.raises(InputError, match="no case has probabilities"):
        calibrate_files([lone], tmp_path, labels=LABELS)
    with pytest.raises(InputError, match="3 channels, which are not the background and the labels"):
        calibrate_files([pair], tmp_path, labels={"anterior": 1})
