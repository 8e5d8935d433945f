import numpy as np
import pytest

from volseg import metrics
from volseg.errors import InputError, ShapeError
from volseg.evaluation import evaluate_case

SPACING = (0.8, 1.2, 3.0)


def maps(shape=(14, 12, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    prediction, reference = np.zeros((2, *shape), np.uint8)
    prediction[2:9, 3:9] = 1
    reference[3:9, 3:10] = 1
    prediction[11:13, 2:5], reference[11:13, 3:6] = 5, 5
    prediction[rng.random(shape) < 0.02] = 1
    return prediction, reference


def test_rows_hold_what_the_single_metrics_say():
    prediction, reference = maps()
    labels = {"liver": 1, "tumour": 5}
    rows = evaluate_case(
        prediction, reference, labels=labels, spacing=SPACING, surface_tolerance_mm=1.5, case="x"
    )
    assert [(row.case, row.name, row.label) for row in rows] == [
        ("x", "liver", 1),
        ("x", "tumour", 5),
    ]
    for row in rows:
        pair = (prediction, reference)
        options = {"spacing": SPACING, "label": row.label}
        assert row.prediction_voxels == (prediction == row.label).sum()
        assert row.reference_voxels == (reference == row.label).sum()
        assert row.dice == metrics.dice(*pair, label=row.label)
        assert row.iou == metrics.iou(*pair, label=row.label)
        assert row.surface_dice == metrics.surface_dice(*pair, tolerance_mm=1.5, **options)
        assert row.hausdorff95_mm == pytest.approx(metrics.hausdorff95(*pair, **options))
        average = metrics.average_surface_distance(*pair, **options)
        assert row.average_surface_distance_mm == pytest.approx(average)
        error = metrics.volume_error(*pair, **options)
        assert (row.volume_error_ml, row.volume_error_relative) == pytest.approx(error)


def test_empty_classes_follow_the_table():
    prediction, reference = maps()
    labels = {"neither": 9, "missed": 7, "invented": 8}
    reference[0, 0, 0], prediction[0, 0, 1] = 7, 8
    neither, missed, invented = evaluate_case(prediction, reference, labels=labels, spacing=SPACING)
    assert np.isnan([neither.dice, neither.hausdorff95_mm, neither.volume_error_ml]).all()
    assert (missed.dice, missed.surface_dice, missed.hausdorff95_mm) == (0, 0, np.inf)
    assert (missed.volume_error_relative, invented.volume_error_relative) == (-1, np.inf)
    assert missed.volume_error_ml == pytest.approx(-0.8 * 1.2 * 3 / 1000)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_compared_in_its_plane(axis):
    prediction, reference = (labels[:, :, 0] for labels in maps())
    plane = [step for number, step in enumerate(SPACING) if number != axis]
    [flat] = evaluate_case(prediction, reference, labels={"a": 1}, spacing=plane)
    volume = [np.expand_dims(labels, axis) for labels in (prediction, reference)]
    [row] = evaluate_case(*volume, labels={"a": 1}, spacing=SPACING)
    assert row.hausdorff95_mm == flat.hausdorff95_mm > 0
    assert row.surface_dice == flat.surface_dice
    assert row.volume_error_relative == flat.volume_error_relative
    assert np.isfinite(row.volume_error_ml)
    assert np.isnan(flat.volume_error_ml)


def test_unusable_options_are_named():
    prediction, reference = maps()
    with pytest.raises(ShapeError):
        evaluate_case(prediction, reference[1:], labels={"a": 1}, spacing=SPACING)
    for spacing in ((1, 1), (1, 1, 1, 1), (1, 1, 0)):
        with pytest.raises(InputError, match="3 positive numbers"):
            evaluate_case(prediction, reference, labels={"a": 9}, spacing=spacing)
    for labels in ({}, {"a": 0}, {"a": 1, "b": 1}, {"a": True}, {"a": 1.0}):
        with pytest.raises(InputError, match="the labels are"):
            evaluate_case(prediction, reference, labels=labels, spacing=SPACING)
