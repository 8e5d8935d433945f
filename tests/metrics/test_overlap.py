import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_iou

from volseg.errors import InputError, ShapeError
from volseg.metrics import (
    Overlap,
    count_overlaps,
    dice,
    iou,
    overlaps_of_batches,
    volume_error,
)

CLASSES = 4


def one_hot(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([labels == c for c in range(CLASSES)])[None]).float()


@given(
    st.one_of(st.just((5, 6)), st.just((4, 3, 5))).flatmap(
        lambda shape: st.tuples(
            *[arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1))] * 2
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_agrees_with_monai(maps):
    prediction, reference = maps
    arguments = one_hot(prediction), one_hot(reference)
    expected_iou = compute_iou(*arguments, ignore_empty=False)[0].numpy()
    expected_dice = compute_dice(*arguments, ignore_empty=False)[0].numpy()
    overlaps = count_overlaps(prediction, reference, classes=range(CLASSES))
    for label, overlap in overlaps.items():
        if overlap.is_empty:  # MONAI says 1 here; volseg says "not applicable"
            assert np.isnan(overlap.dice)
            assert np.isnan(overlap.iou)
            continue
        assert overlap.dice == pytest.approx(expected_dice[label])
        assert overlap.iou == pytest.approx(expected_iou[label])
        assert dice(prediction, reference, label=label) == overlap.dice
        assert iou(prediction, reference, label=label) == overlap.iou


def test_exact_counts_of_every_class_whatever_the_layout_and_type():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 300, (2, 12, 11, 10))
    expected = {
        int(c): Overlap(int(((a == c) & (b == c)).sum()), int((a == c).sum()), int((b == c).sum()))
        for c in np.unique([a, b])
        if c
    }
    assert count_overlaps(a.astype(np.uint16), b) == expected
    assert count_overlaps(np.asfortranarray(a), np.asfortranarray(b.astype(np.int16))) == expected
    assert count_overlaps(a, b, classes=[301]) == {301: Overlap(0, 0, 0)}


def test_masks_and_all_foreground():
    a = np.array([[True, True, False]])
    b = np.array([[False, True, True]])
    assert dice(a, b) == 0.5
    assert iou(a, b) == pytest.approx(1 / 3)
    assert dice(a.astype(np.uint8) * 2, b) == 0.5
    assert count_overlaps(a, b) == {1: Overlap(1, 2, 2)}


FULL, EMPTY = np.ones((4, 5, 2), np.uint8), np.zeros((4, 5, 2), np.uint8)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (EMPTY, EMPTY, [np.nan, np.nan, np.nan, np.nan]),
        (FULL, EMPTY, [0, 0, 0.04, np.inf]),
        (EMPTY, FULL, [0, 0, -0.04, -1]),
        (FULL, FULL, [1, 1, 0, 0]),
    ],
)
def test_empty_classes_follow_the_table(prediction, reference, expected):
    error = volume_error(prediction, reference, spacing=(0.5, 1, 2))
    found = [dice(prediction, reference), iou(prediction, reference), *error]
    np.testing.assert_allclose(found, expected)


def test_volume_error_is_signed_and_in_2d_has_no_millilitres():
    half = FULL.copy()
    half[2:] = 0
    assert volume_error(half, FULL, spacing=(10, 10, 5)) == pytest.approx((-10.0, -0.5))
    assert volume_error(FULL, half, spacing=(10, 10, 5)) == pytest.approx((10.0, 1.0))
    # Slices of a tilted gantry, shifted against each other, are nearer than their centres.
    steps = np.array([[10, 0, 3], [0, 10, 0], [0, 0, 4]])
    assert volume_error(FULL, half, spacing=steps) == pytest.approx((8.0, 1.0))
    flat = volume_error(FULL[..., 0], half[..., 0], spacing=(1, 1))
    assert np.isnan(flat.millilitres)
    assert flat.relative == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "error", "words"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), ShapeError, r"\(2, 2\) .* \(2, 3\)"),
        (np.zeros((1, 1, 2, 2), int), np.zeros((1, 1, 2, 2), int), ShapeError, "one shape"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), InputError, "prediction has the dtype float64"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), InputError, "reference holds values from -1"),
        (np.zeros((2, 2), int), np.full((2, 2), 70000), InputError, "65535"),
    ],
)
def test_unusable_maps_are_named(prediction, reference, error, words):
    with pytest.raises(error, match=words):
        count_overlaps(prediction, reference)
    with pytest.raises(error, match=words):
        dice(prediction, reference)


def test_unusable_spacing_is_named():
    for spacing in ((1, 1), (1, 1, 0), (1, 1, np.nan)):
        with pytest.raises(InputError, match="3 positive numbers"):
            volume_error(FULL, FULL, spacing=spacing)


def test_batches_are_images_put_together():
    random = np.random.default_rng(0)
    images = [random.integers(0, 2, (2, 6, 5)) for _ in range(5)]
    overlaps = [count_overlaps(*pair)[1] for pair in images]
    batches = overlaps_of_batches(overlaps)
    assert len(batches) == 3
    first = [np.concatenate([images[0][k], images[1][k]]) for k in (0, 1)]
    assert batches[0].iou == iou(*first)
    assert batches[0].dice == dice(*first)
    assert batches[2] == overlaps[4]
    assert overlaps_of_batches(overlaps, 1) == overlaps
    with pytest.raises(InputError, match="size of a batch"):
        overlaps_of_batches(overlaps, 0)
