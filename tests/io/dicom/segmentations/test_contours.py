"""Contours enclose exactly the pixels of their mask, for every way of filling them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as some
from scipy import ndimage
from skimage.measure import points_in_poly

from volseg.io.dicom.segmentations.contours import contours_mask, mask_contours

MASKS = some.arrays(bool, some.array_shapes(min_dims=2, max_dims=2, max_side=9))


def signed_area(contour: np.ndarray) -> float:
    x, y = contour.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_a_contour_around_each_piece_with_its_area(mask: np.ndarray) -> None:
    contours = mask_contours(mask)
    pieces, count = ndimage.label(mask)
    areas = sorted(signed_area(contour) for contour in contours)
    assert areas == sorted(np.bincount(pieces.ravel())[1:].tolist())
    assert len(contours) == count


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_filling_gives_the_mask_back(mask: np.ndarray) -> None:
    contours = mask_contours(mask)
    np.testing.assert_array_equal(contours_mask(contours, mask.shape), mask)


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_programs_that_add_up_contours_see_the_holes(mask: np.ndarray) -> None:
    centres = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), -1).reshape(-1, 2)
    added = np.zeros(mask.shape, bool)
    for contour in mask_contours(mask):
        added |= points_in_poly(centres, contour).reshape(mask.shape)
    np.testing.assert_array_equal(added, mask)


def test_a_rectangle_has_four_corners_on_the_edges_of_its_pixels() -> None:
    mask = np.zeros((6, 5), bool)
    mask[2:5, 1:3] = True
    (contour,) = mask_contours(mask)
    assert contour.tolist() == [[1.5, 0.5], [4.5, 0.5], [4.5, 2.5], [1.5, 2.5]]


def test_a_ring_is_one_contour_with_a_channel_along_x() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    (contour,) = mask_contours(mask)
    assert signed_area(contour) == 24
    channel = [-0.5, 2.5]
    hole = [[2.5, 2.5], [2.5, 1.5], [1.5, 1.5], [1.5, 2.5]]
    outside = [[-0.5, -0.5], [4.5, -0.5], [4.5, 4.5], [-0.5, 4.5]]
    # Around the outside, in along the channel, around the hole the other way, and back.
    assert contour.tolist() == [*outside, channel, *hole, channel]


def test_inner_contours_are_holes_and_what_is_outside_is_cut_off() -> None:
    def square(low: float, high: float) -> np.ndarray:
        return np.array([[low, low], [high, low], [high, high], [low, high], [low, low]])

    filled = contours_mask([square(-3, 6.2), square(0.8, 3.3)], (6, 5))
    expected = np.ones((6, 5), bool)
    expected[1:4, 1:4] = False
    np.testing.assert_array_equal(filled, expected)
    # Neighbours that meet on centres share none and lose none.
    left, right = contours_mask([square(0, 2)], (6, 5)), contours_mask([square(2, 4)], (6, 5))
    assert left[:, 1].tolist() == [True, True, False, False, False, False]
    assert right[:, 2].tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("turn", range(4))
def test_triangles_agree_with_another_program(turn: int) -> None:
    random = np.random.default_rng(turn)
    centres = np.stack(np.meshgrid(np.arange(40), np.arange(30), indexing="ij"), -1).reshape(-1, 2)
    for _ in range(20):
        triangle = random.uniform(-5, 45, (3, 2))
        expected = points_in_poly(centres, triangle).reshape(40, 30)
        np.testing.assert_array_equal(contours_mask([triangle], (40, 30)), expected)
