import time

import fill_voids
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from volseg.errors import InputError, ShapeError
from volseg.postprocess import fill_holes

LABEL_MAPS = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 8)] * 2), elements=st.integers(0, 3)),
    arrays(np.int64, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 2)),
)


def filled_by_definition(labels: np.ndarray) -> np.ndarray:
    """The rule of the docstring, class by class with SciPy."""
    best = np.full(labels.shape, np.inf)
    result = labels.copy()
    for value in np.unique(labels[labels > 0]):
        inside = ndimage.binary_fill_holes(labels == value) & (labels != value)
        holes, count = ndimage.label(inside)
        for number in range(1, count + 1):
            hole = holes == number
            take = hole & (labels == 0) & (hole.sum() < best)
            result[take], best[take] = value, hole.sum()
    return result


@given(LABEL_MAPS)
@settings(max_examples=200, deadline=None)
def test_agrees_with_scipy(labels):
    before = labels.copy()
    result = fill_holes(labels)
    np.testing.assert_array_equal(result, filled_by_definition(labels))
    assert result.dtype == labels.dtype
    np.testing.assert_array_equal(labels, before)


@given(LABEL_MAPS)
@settings(max_examples=50, deadline=None)
def test_filling_twice_changes_nothing_and_layout_has_no_effect(labels):
    once = fill_holes(labels)
    np.testing.assert_array_equal(fill_holes(once), once)
    np.testing.assert_array_equal(fill_holes(np.asfortranarray(labels)), once)
    np.testing.assert_array_equal(fill_holes(labels[::-1]), once[::-1])


def test_agrees_with_fill_voids_on_sparse_noise():
    labels = (np.random.default_rng(0).random((40, 30, 20)) < 0.6).astype(np.uint8)
    np.testing.assert_array_equal(fill_holes(labels), fill_voids.fill(labels))


def nested() -> np.ndarray:
    """Cube shells of class 1, then 2, then 3, one inside the other, with background between."""
    labels = np.zeros((15, 15, 15), np.uint8)
    for value, start in ((1, 1), (2, 3), (3, 5)):
        labels[(slice(start, -start),) * 3] = value
        labels[(slice(start + 1, -start - 1),) * 3] = 0
    return labels


def test_background_between_nested_classes_goes_to_the_innermost():
    labels = nested()
    result = fill_holes(labels)
    expected = np.zeros_like(labels)
    for value, start in ((1, 1), (2, 3), (3, 5)):
        expected[(slice(start, -start),) * 3] = value
    np.testing.assert_array_equal(result, expected)


def test_only_chosen_classes_fill():
    labels = nested()
    result = fill_holes(labels, classes=[1])
    np.testing.assert_array_equal(result[labels > 0], labels[labels > 0])
    assert (result[2:-2, 2:-2, 2:-2][labels[2:-2, 2:-2, 2:-2] == 0] == 1).all()
    np.testing.assert_array_equal(fill_holes(labels, classes=[9]), labels)


def test_two_classes_together_enclose_nothing():
    labels = np.ones((5, 5), np.uint8)
    labels[:, 3:] = 2
    labels[2, 2] = 0
    np.testing.assert_array_equal(fill_holes(labels), np.where(labels == 0, 0, labels))
    labels[2, 3] = 1  # now class 1 closes the ring over faces
    labels[1, 3] = labels[3, 3] = 1
    assert fill_holes(labels)[2, 2] == 1


def test_a_gap_over_a_corner_only_is_a_hole_and_one_at_the_edge_is_not():
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    assert fill_holes(np.pad(diamond, 1))[2, 2] == 1
    assert fill_holes(diamond)[0, 0] == 0
    half = np.array([[1, 0, 1], [1, 1, 1]], np.uint8)
    np.testing.assert_array_equal(fill_holes(half), half)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.int64, ">i2"])
def test_keeps_the_type_of_number(dtype):
    labels = np.ones((3, 3, 3), dtype)
    labels[1, 1, 1] = 0
    result = fill_holes(labels)
    assert result.all()
    assert result.dtype == np.dtype(dtype).newbyteorder("=")


def test_highest_values_of_the_type():
    labels = np.full((3, 3), 255, np.uint8)
    labels[1, 1] = 0
    assert fill_holes(labels)[1, 1] == 255


def test_empty_and_full_maps():
    for labels in (np.zeros((4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)):
        np.testing.assert_array_equal(fill_holes(labels), labels)


def test_many_regions_stay_fast():
    noise = np.random.default_rng(0).integers(0, 4, (48, 48, 48)).astype(np.uint8)
    start = time.perf_counter()
    fill_holes(noise)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("labels", "options", "error", "words"),
    [
        (np.zeros((2, 2), np.float32), {}, InputError, "argmax"),
        (np.full((2, 2), -1), {}, InputError, "-1"),
        (np.zeros((1, 2, 2, 2), np.uint8), {}, ShapeError, r"\(1, 2, 2, 2\)"),
        (np.zeros((0, 2), np.uint8), {}, ShapeError, "at least one voxel"),
        (np.zeros((2, 2), np.uint8), {"classes": [0]}, InputError, "background"),
    ],
)
def test_unusable_input_is_named(labels, options, error, words):
    with pytest.raises(error, match=words):
        fill_holes(labels, **options)
