import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops

from volseg.errors import InputError
from volseg.postprocess import keep_largest

LABEL_MAPS = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 8)] * 2), elements=st.integers(0, 3)),
    arrays(np.int64, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 2)),
)


def largest_by_definition(labels, count):
    result = np.zeros_like(labels)
    for value in np.unique(labels[labels > 0]):
        regions = regionprops(label(labels == value, connectivity=labels.ndim))
        regions.sort(key=lambda region: (-region.num_pixels, tuple(min(region.coords.tolist()))))
        for region in regions[:count]:
            result[tuple(region.coords.T)] = value
    return result


@given(LABEL_MAPS, st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_agrees_with_skimage_ties_included(labels, count):
    before = labels.copy()
    expected = largest_by_definition(labels, count)
    for same in (labels, np.asfortranarray(labels)):
        result = keep_largest(same, count=count)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == labels.dtype
    np.testing.assert_array_equal(labels, before)


def test_a_tie_goes_to_the_lowest_index():
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 4] = labels[2, 0] = labels[4, 4] = 1
    assert np.argwhere(keep_largest(labels)).tolist() == [[0, 4]]
    assert np.argwhere(keep_largest(labels, count=2)).tolist() == [[0, 4], [2, 0]]


def test_only_chosen_classes():
    labels = np.array([[1, 0, 1, 1, 0, 2, 0, 2, 2]], np.uint16)
    result = keep_largest(labels, classes=[2, 5])
    assert result.tolist() == [[1, 0, 1, 1, 0, 0, 0, 2, 2]]
    assert result.dtype == np.uint16


def test_touching_classes_are_not_one_component():
    labels = np.array([[1, 2, 1, 1], [0, 0, 0, 0]], np.uint8)
    assert keep_largest(labels).tolist() == [[0, 2, 1, 1], [0, 0, 0, 0]]


def test_connectivity_decides_over_corners():
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.uint8)
    np.testing.assert_array_equal(keep_largest(labels), labels)
    assert keep_largest(labels, connectivity=4).sum() == 2


def test_empty_map_and_no_component_lost():
    empty = np.zeros((3, 3, 3), np.uint8)
    np.testing.assert_array_equal(keep_largest(empty), empty)
    noise = np.random.default_rng(0).integers(0, 200, (20, 20, 20)).astype(np.uint8)
    np.testing.assert_array_equal(np.unique(keep_largest(noise)), np.unique(noise))


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_unusable_counts_are_named(count):
    with pytest.raises(InputError, match="at least 1"):
        keep_largest(np.zeros((2, 2), np.uint8), count=count)
