import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.morphology import remove_small_objects

from volseg.errors import InputError
from volseg.postprocess import remove_small_components

LABEL_MAPS = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 8)] * 2), elements=st.integers(0, 3)),
    arrays(np.int64, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 2)),
)


def removed_by_definition(labels, smallest, rank, replace_with=0):
    result = labels.copy()
    structure = ndimage.generate_binary_structure(labels.ndim, rank)
    for value in np.unique(labels[labels > 0]):
        numbers, count = ndimage.label(labels == value, structure)
        for number in range(1, count + 1):
            if (numbers == number).sum() < smallest:
                result[numbers == number] = replace_with
    return result


@given(LABEL_MAPS, st.integers(0, 6), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_agrees_with_scipy(labels, smallest, rank):
    rank = min(rank, labels.ndim)
    connectivity = {2: (4, 8), 3: (6, 18, 26)}[labels.ndim][rank - 1]
    before = labels.copy()
    result = remove_small_components(labels, min_size_voxels=smallest, connectivity=connectivity)
    np.testing.assert_array_equal(result, removed_by_definition(labels, smallest, rank))
    np.testing.assert_array_equal(labels, before)
    assert result.dtype == labels.dtype
    assert not np.shares_memory(result, labels)


def test_agrees_with_skimage_on_a_mask():
    mask = np.random.default_rng(0).random((30, 30, 20)) < 0.2
    expected = remove_small_objects(mask, max_size=4, connectivity=3)
    np.testing.assert_array_equal(remove_small_components(mask, min_size_voxels=5), expected)


def two_blobs() -> np.ndarray:
    labels = np.zeros((12, 10, 8), np.uint16)
    labels[1:3, 1:3, 1:3] = 300  # 8 voxels
    labels[6:9, 1:4, 1:4] = 300  # 27 voxels
    labels[6:9, 6:9, 5:6] = 7  # 9 voxels
    return labels


def test_sizes_are_physical_and_the_exact_size_stays():
    labels, spacing = two_blobs(), (0.7, 0.7, 3.0)  # 1.47 mm³ a voxel
    exact = float(np.prod(np.float32(spacing)) * 8)
    kept = remove_small_components(labels, min_size_mm3=exact, spacing=spacing)
    np.testing.assert_array_equal(kept, labels)
    result = remove_small_components(labels, min_size_mm3=exact + 0.01, spacing=spacing)
    assert (result == 300).sum() == 27
    assert (result == 7).sum() == 9
    assert result.dtype == np.uint16


def test_in_2d_the_size_is_an_area():
    labels = two_blobs()[:, :, 1]  # 4 and 9 pixels
    result = remove_small_components(labels, min_size_mm3=7.5, spacing=(0.5, 4.0))
    assert (result == 300).sum() == 13
    result = remove_small_components(labels, min_size_mm3=7.5, spacing=(0.5, 2.0))
    assert (result == 300).sum() == 9


def test_only_chosen_classes_and_another_replacement():
    labels = two_blobs()
    result = remove_small_components(labels, min_size_voxels=10, classes=[300], replace_with=7)
    assert (result == 300).sum() == 27
    assert (result == 7).sum() == 17
    unchanged = remove_small_components(labels, min_size_voxels=10, classes=[1])
    np.testing.assert_array_equal(unchanged, labels)


def test_a_class_that_vanishes_is_logged(caplog):
    with caplog.at_level(logging.WARNING, logger="volseg.postprocess"):
        remove_small_components(two_blobs(), min_size_voxels=9)
        assert not caplog.records
        result = remove_small_components(two_blobs(), min_size_voxels=10)
    assert (result == 7).sum() == 0
    [record] = caplog.records
    assert "whole of class 7: 9 voxels in 1 component" in record.getMessage()


def test_layout_has_no_effect_and_empty_maps_stay():
    labels = two_blobs()
    expected = remove_small_components(labels, min_size_voxels=9)
    for same in (np.asfortranarray(labels), np.repeat(labels, 2, axis=0)[::2]):
        np.testing.assert_array_equal(remove_small_components(same, min_size_voxels=9), expected)
    empty = np.zeros((3, 3), np.uint8)
    np.testing.assert_array_equal(remove_small_components(empty, min_size_voxels=9), empty)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one"),
        ({"min_size_mm3": 1, "min_size_voxels": 1}, "exactly one"),
        ({"min_size_mm3": 1}, "pass spacing="),
        ({"min_size_mm3": 1, "spacing": (1, 1)}, "3 positive numbers"),
        ({"min_size_mm3": 1, "spacing": (1, 1, 0)}, "3 positive numbers"),
        ({"min_size_mm3": float("nan"), "spacing": (1, 1, 1)}, "at least 0"),
        ({"min_size_voxels": -1}, "at least 0"),
        ({"min_size_voxels": 1, "connectivity": 8}, "one of"),
        ({"min_size_voxels": 1, "replace_with": 70000}, "0 to 65535"),
    ],
)
def test_unusable_options_are_named(options, words):
    with pytest.raises(InputError, match=words):
        remove_small_components(two_blobs(), **options)
