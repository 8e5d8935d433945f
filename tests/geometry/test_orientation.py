"""Reorientation: all 48 axis orders, views, inverses, agreement with nibabel."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from volseg.errors import GeometryError, ShapeError
from volseg.geometry import Affine, direction_of, parse_orientation, reorientation

ALL_CODES = [
    "".join(letters)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for letters in itertools.product(*order)
]


def test_there_are_48_orientations() -> None:
    assert len(set(ALL_CODES)) == 48


@pytest.mark.parametrize("codes", ALL_CODES)
def test_direction_of_codes_has_these_codes(codes: str) -> None:
    affine = Affine.from_parts((1, 2, 3), direction=direction_of(codes))
    assert "".join(affine.orientation) == codes == "".join(parse_orientation(codes.lower()))


@given(
    st.sampled_from(ALL_CODES),
    st.sampled_from(ALL_CODES),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_every_voxel_keeps_its_place_and_the_inverse_undoes_it(
    start: str, wanted: str, shape: tuple[int, int, int], tilt: tuple[float, float, float]
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    direction = euler2mat(*tilt) @ direction_of(start)
    affine = Affine.from_parts((0.7, 1.1, 2.5), (10, -20, 30), direction)
    change = reorientation(affine, wanted)
    moved, placed = change.apply(array), change.apply_to_affine(affine, shape)
    assert placed.orientation == tuple(wanted)
    assert moved.shape == change.apply_to_shape(shape)
    for index in itertools.product(*map(range, moved.shape)):
        old = np.rint(change.index_map(shape).apply(index)).astype(int)
        assert moved[index] == array[tuple(old)]
        np.testing.assert_allclose(placed.apply(index), affine.apply(old), atol=1e-9)
    back = change.inverse()
    np.testing.assert_array_equal(back.apply(moved), array)
    np.testing.assert_allclose(
        back.apply_to_affine(placed, moved.shape).matrix, affine.matrix, atol=1e-9
    )


@pytest.mark.parametrize("codes", ALL_CODES)
def test_agrees_with_nibabel(codes: str) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    affine = Affine.from_parts((1, 2, 3), (4, 5, 6), direction_of(codes))
    expected = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.int16), affine.matrix))
    change = reorientation(affine, "RAS")
    np.testing.assert_array_equal(change.apply(array), np.asarray(expected.dataobj))
    np.testing.assert_allclose(
        change.apply_to_affine(affine, array.shape).matrix, expected.affine, atol=1e-9
    )


def test_apply_is_a_view_of_trailing_axes() -> None:
    array = np.zeros((5, 2, 3, 4))
    moved = reorientation(Affine(np.eye(4)), "SLP").apply(array)
    assert moved.shape == (5, 4, 2, 3)
    assert np.shares_memory(moved, array)
    with pytest.raises(ShapeError):
        reorientation(Affine(np.eye(4)), "RAS").apply(np.zeros((2, 3)))


def test_two_dimensions() -> None:
    change = reorientation(Affine(np.eye(3)), "PR")
    np.testing.assert_array_equal(change.apply(np.array([[1, 2], [3, 4]])), [[2, 4], [1, 3]])


@pytest.mark.parametrize("codes", ["RAR", "XYZ", "R", "RASL", "", "RS", "RA S"])
def test_impossible_codes_are_refused(codes: str) -> None:
    with pytest.raises(GeometryError, match="axis codes"):
        parse_orientation(codes)


def test_codes_of_another_number_of_axes_are_refused() -> None:
    with pytest.raises(GeometryError):
        reorientation(Affine(np.eye(4)), "RA")
