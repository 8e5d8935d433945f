"""Calibration against closed forms, and temperatures that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from volseg.errors import InputError, ShapeError
from volseg.metrics import CalibrationTally, fit_temperature


def drawn(temperature: float, voxels: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax: scaled, they are that much too sure."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 1.5, (3, voxels))
    thresholds = softmax(logits, axis=0).cumsum(axis=0)
    labels = (random.random(voxels) > thresholds).sum(axis=0)
    return logits * temperature, np.minimum(labels, 2)


def test_a_temperature_that_is_known_is_found_to_a_percent():
    for temperature in (0.5, 1.0, 2.5):
        found = fit_temperature(*drawn(temperature))
        assert found.value == pytest.approx(temperature, rel=0.01)
        assert found.after <= found.before + 1e-12
        assert found.voxels == 200_000


def test_logarithms_of_probabilities_do_in_place_of_logits():
    logits, labels = drawn(2.0, 20_000)
    other = np.log(softmax(logits, axis=0))
    assert fit_temperature(other, labels).value == pytest.approx(
        fit_temperature(logits, labels).value, rel=1e-6
    )


def test_the_temperature_of_regions():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (2, 100_000))
    truth = random.random(logits.shape) < 1 / (1 + np.exp(-logits))
    assert fit_temperature(3 * logits, truth).value == pytest.approx(3, rel=0.01)


def test_what_no_temperature_can_be_fitted_to_is_refused():
    with pytest.raises(ShapeError, match="do not belong together"):
        fit_temperature(np.zeros((2, 5)), np.zeros(4, int))
    with pytest.raises(InputError, match="classes 0 to 1"):
        fit_temperature(np.zeros((2, 5)), np.array([0, 1, 255, 0, 1]))
    with pytest.raises(InputError, match="finite"):
        fit_temperature(np.full((2, 5), np.inf), np.zeros(5, int))


def test_calibrated_probabilities_have_no_error_and_sharpened_ones_have():
    logits, labels = drawn(1.0)
    tally = CalibrationTally([0, 1, 2])
    tally.add(softmax(logits, axis=0), labels)
    found = tally.result()
    assert found.label.expected_error < 0.005
    assert all(one.expected_error < 0.005 for one in found.channels)
    # Calibrated, the expected likelihood is the entropy, and the Brier score its quadratic kin.
    p = softmax(logits, axis=0)
    assert found.negative_log_likelihood == pytest.approx(-(p * np.log(p)).sum(0).mean(), rel=0.01)
    assert found.brier == pytest.approx(1 - (p**2).sum(0).mean(), rel=0.01)
    sure = CalibrationTally([0, 1, 2])
    sure.add(softmax(3 * logits, axis=0), labels)
    assert sure.result().label.expected_error > 0.1
    assert sure.result().brier > found.brier


def test_closed_forms():
    """Of four voxels at 0.8, three are right; of two at 0.4 and 0.6 both are wrong."""
    foreground = np.array([0.8, 0.8, 0.8, 0.8, 0.6, 0.4])
    labels = np.array([1, 1, 1, 0, 0, 1])
    tally = CalibrationTally([0, 1], bins=10)
    tally.add(np.stack([1 - foreground, foreground]), labels)
    found = tally.result()
    assert found.voxels == 6
    label, one = found.label, found.channels[1]
    # By label: at 0.8 |3.2 - 3|, at 0.6 twice right never: |1.2 - 0|.
    assert label.expected_error == pytest.approx((0.2 + 1.2) / 6)
    # By class: at 0.4 |0.4 - 1|, at 0.6 |0.6 - 0|.
    assert one.expected_error == pytest.approx((0.2 + 0.6 + 0.6) / 6)
    assert found.foreground.expected_error == pytest.approx(one.expected_error)
    squares = 3 * 0.2**2 + 0.8**2 + 2 * 0.6**2
    assert one.brier == pytest.approx(squares / 6)
    assert found.brier == pytest.approx(2 * squares / 6)
    assert found.negative_log_likelihood == pytest.approx(
        -(3 * np.log(0.8) + np.log(0.2) + 2 * np.log(0.4)) / 6
    )
    assert one.share_true[8] == 0.75
    assert np.isnan(one.mean_probability[0])


def test_blocks_of_channels_and_planes_give_what_the_whole_gives():
    random = np.random.default_rng(1)
    p = softmax(random.normal(size=(3, 6, 5, 4)), axis=0).astype(np.float32)
    labels = random.integers(0, 3, (6, 5, 4))
    whole, parts = CalibrationTally([0, 1, 2]), CalibrationTally([0, 1, 2])
    whole.add(p, labels)
    full = slice(None)
    parts.add_blocks(
        [
            ((slice(c, c + 1), full, full, slice(z, z + 2)), p[c : c + 1, ..., z : z + 2])
            for c in range(3)
            for z in (0, 2)
        ],
        labels,
    )
    first, second = whole.result(), parts.result()
    np.testing.assert_array_equal(first.label.voxels, second.label.voxels)
    np.testing.assert_array_equal(first.label.true, second.label.true)
    assert second.brier == pytest.approx(first.brier)
    assert second.negative_log_likelihood == pytest.approx(first.negative_log_likelihood)


def test_tallies_of_cases_are_merged():
    random = np.random.default_rng(1)
    p = softmax(random.normal(size=(3, 40)), axis=0)
    labels = random.integers(0, 3, 40)
    whole, first, second = (CalibrationTally([0, 1, 2]) for _ in range(3))
    whole.add(p, labels)
    first.add(p[:, :15], labels[:15])
    second.add(p[:, 15:], labels[15:])
    first.merge(second)
    assert first.result().brier == pytest.approx(whole.result().brier)
    np.testing.assert_array_equal(first.result().label.true, whole.result().label.true)
    with pytest.raises(ShapeError, match="different channels"):
        first.merge(CalibrationTally([0, 1]))


def test_ignored_voxels_do_not_count():
    p = np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]])
    with_ignored, without = CalibrationTally([0, 1], ignore=255), CalibrationTally([0, 1])
    with_ignored.add(p, np.array([0, 1, 255]))
    without.add(p[:, :2], np.array([0, 1]))
    assert with_ignored.result().voxels == 2
    assert with_ignored.result().brier == without.result().brier
    assert with_ignored.result().label.expected_error == without.result().label.expected_error


def test_regions_are_each_on_their_own():
    tally = CalibrationTally([[1, 2], [2]], exclusive=False, bins=10)
    tally.add(np.array([[0.9, 0.1], [0.6, 0.1]]), np.array([1, 0]))
    found = tally.result()
    assert (found.label, found.foreground) == (None, None)
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.36 + 0.01) / 4)
    assert found.negative_log_likelihood == pytest.approx(
        -(np.log(0.9) + np.log(0.9) + np.log(0.4) + np.log(0.9)) / 4
    )


def test_what_are_no_probabilities_is_refused():
    tally = CalibrationTally([0, 1])
    with pytest.raises(InputError, match=r"got -3 to 4: are these logits"):
        tally.add(np.array([[4.0, 1.0], [-3.0, 0.0]]), np.array([0, 1]))
    with pytest.raises(InputError, match="between 0 and 1"):
        tally.add(np.full((2, 2), np.nan), np.array([0, 1]))
    with pytest.raises(ShapeError, match="do not fit"):
        tally.add(np.zeros((3, 2)), np.array([0, 1]))
    with pytest.raises(ShapeError, match="expected one for each"):
        tally.add(np.zeros((1, 2)), np.array([0, 1]))
    with pytest.raises(InputError, match="two classes"):
        CalibrationTally([0])
