import numpy as np
import pytest

from volseg import metrics
from volseg.errors import InputError, ShapeError
from volseg.evaluation import EmptyRule, evaluate_case

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
        assert row.reference_ml == pytest.approx(row.reference_voxels * 0.8 * 1.2 * 3 / 1000)
        error = metrics.volume_error(*pair, **options)
        assert row.prediction_ml - row.reference_ml == pytest.approx(error.millilitres)
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


def test_ignored_voxels_count_in_no_metric():
    prediction, reference = maps()
    unknown = np.zeros(reference.shape, bool)
    unknown[5:8, 4:, 3:8] = True
    marked = np.where(unknown, 255, reference)
    options = {"labels": {"liver": 1, "tumour": 5}, "spacing": SPACING}
    rows = evaluate_case(prediction, marked, ignore=255, **options)
    known = ~unknown
    for row in rows:
        first, second = (prediction == row.label) & known, (reference == row.label) & known
        assert (row.prediction_voxels, row.reference_voxels) == (first.sum(), second.sum())
        assert row.dice == metrics.dice(first, second)
    # Whatever was said of the unknown, nothing changes.
    other = np.where(unknown, 5, prediction)
    assert evaluate_case(other, marked, ignore=255, **options) == rows
    with pytest.raises(InputError, match="value to ignore is 5"):
        evaluate_case(prediction, marked, ignore=5, **options)


def test_the_edge_of_the_unknown_is_no_surface():
    """A box that is cut by unknown voxels has the surface of the box, less what is unknown."""
    reference = np.zeros((20, 20), np.uint8)
    reference[4:16, 4:16] = 1
    prediction = np.roll(reference, 2, axis=0)
    whole = evaluate_case(prediction, reference, labels={"box": 1}, spacing=(1, 1))[0]
    reference[8:13, :] = 255
    row = evaluate_case(prediction, reference, labels={"box": 1}, spacing=(1, 1), ignore=255)[0]
    # Of 44 border pixels each, 10 are unknown; those moved by two pixels are the two short sides.
    assert row.hausdorff95_mm == whole.hausdorff95_mm == 2
    sides = metrics.surface_distances(
        prediction == 1, reference == 1, spacing=(1, 1), ignored=reference == 255
    )
    assert len(sides.from_reference) == len(sides.from_prediction) == 44 - 10


def test_how_missing_classes_count_can_be_chosen():
    prediction, reference = maps()
    reference[0, 0, 0], prediction[0, 0, 1] = 7, 8
    labels = {"neither": 9, "missed": 7, "invented": 8, "liver": 1}
    rule = EmptyRule(neither_is_perfect=True, missed_distance_mm=374)
    options = {"labels": labels, "spacing": SPACING}
    neither, missed, invented, liver = evaluate_case(prediction, reference, empty=rule, **options)
    assert (neither.dice, neither.hausdorff95_mm, neither.volume_error_relative) == (1, 0, 0)
    assert (missed.dice, missed.hausdorff95_mm, missed.average_surface_distance_mm) == (0, 374, 374)
    assert (invented.hausdorff95_mm, invented.volume_error_relative) == (374, np.inf)
    assert liver == evaluate_case(prediction, reference, **options)[3]
    assert rule.sentences("pixels")[1].endswith("distances count as 374 pixels.")
    with pytest.raises(InputError, match="at least 0"):
        EmptyRule(missed_distance_mm=-1)


def test_a_region_is_scored_as_the_mask_of_all_its_values():
    prediction, reference = maps()
    prediction[4:6, 4:6, 2:4], reference[5:7, 4:6, 2:4] = 2, 2
    regions = {"whole": (1, 2), "core": (2,)}
    whole, core = evaluate_case(prediction, reference, labels=regions, spacing=SPACING)
    assert (whole.label, core.label) == ((1, 2), 2)
    masks = [np.isin(labels, (1, 2)).astype(np.uint8) for labels in (prediction, reference)]
    (expected,) = evaluate_case(*masks, labels={"whole": 1}, spacing=SPACING)
    for name in ("dice", "surface_dice", "hausdorff95_mm", "volume_error_ml"):
        assert getattr(whole, name) == getattr(expected, name)
    assert core.dice == metrics.dice(prediction, reference, label=2)


@pytest.mark.parametrize("labels", [{"a": ()}, {"a": (0, 1)}, {"a": (1, 2), "b": (2, 1)}])
def test_regions_without_values_of_their_own_are_refused(labels):
    with pytest.raises(InputError, match="the labels are"):
        evaluate_case(*maps(), labels=labels, spacing=SPACING)
