"""The affine: validation, parts, orientation codes and conventions."""

from __future__ import annotations

import itertools
import pickle

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from volseg.errors import GeometryError
from volseg.geometry import Affine

angles = st.floats(-np.pi, np.pi)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    from nibabel.eulerangles import euler2mat

    return euler2mat(a, b, c)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    direction = rotation(*(draw(angles) for _ in range(3))) * draw(st.sampled_from([1.0, -1.0]))
    spacing = draw(st.tuples(*[st.floats(0.05, 20.0)] * 3))
    origin = draw(st.tuples(*[st.floats(-2000.0, 2000.0)] * 3))
    return Affine.from_parts(spacing, origin, direction)


@given(affines())
def test_parts_round_trip(affine: Affine) -> None:
    again = Affine.from_parts(affine.spacing, affine.origin, affine.direction)
    np.testing.assert_allclose(again.matrix, affine.matrix, atol=1e-9)
    assert affine.is_orthogonal()
    assert affine.shear < 1e-6


@given(affines(), npst.arrays(np.float64, (5, 3), elements=st.floats(-500, 500)))
def test_inverse_undoes_apply(affine: Affine, points: np.ndarray) -> None:
    np.testing.assert_allclose(affine.inverse().apply(affine.apply(points)), points, atol=1e-6)
    np.testing.assert_allclose((affine.inverse() @ affine).matrix, np.eye(4), atol=1e-9)


@given(affines(), affines())
def test_compose_applies_the_right_one_first(second: Affine, first: Affine) -> None:
    point = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        (second @ first).apply(point), second.apply(first.apply(point)), rtol=1e-9, atol=1e-6
    )


@given(affines())
def test_lps_round_trip_negates_x_and_y(affine: Affine) -> None:
    lps = affine.to_lps()
    np.testing.assert_array_equal(lps[:2], -affine.matrix[:2])
    np.testing.assert_array_equal(lps[2:], affine.matrix[2:])
    assert Affine.from_lps(lps) == affine


def test_lps_in_two_dimensions_negates_both() -> None:
    affine = Affine([[2, 0, 5], [0, 3, 7], [0, 0, 1]])
    np.testing.assert_array_equal(affine.to_lps(), [[-2, 0, -5], [0, -3, -7], [0, 0, 1]])
    assert affine.orientation == ("R", "A")
    assert affine.spacing == (2.0, 3.0)


@given(affines())
def test_orientation_uses_every_world_axis_once(affine: Affine) -> None:
    assert sorted(affine.nearest_world_axes) == [0, 1, 2]
    assert affine.obliquity <= np.pi / 2


@given(affines())
def test_orientation_agrees_with_nibabel_unless_strongly_oblique(affine: Affine) -> None:
    assume(affine.obliquity < np.deg2rad(40))
    assert affine.orientation == nib.aff2axcodes(affine.matrix)


def test_orientation_of_a_space_diagonal_is_a_permutation() -> None:
    direction = rotation(0.0, 0.0, np.pi / 4) @ rotation(0.0, np.arctan(np.sqrt(0.5)), 0.0)
    assert sorted(Affine.from_parts((1, 1, 1), direction=direction).nearest_world_axes) == [0, 1, 2]


def test_shear_and_obliquity_in_radians() -> None:
    sheared = np.eye(4)
    sheared[1, 2] = np.tan(0.2)
    assert Affine(sheared).shear == pytest.approx(0.2)
    assert not Affine(sheared).is_orthogonal()
    turned = Affine.from_parts((1, 2, 3), direction=rotation(0.0, 0.0, 0.3))
    assert turned.obliquity == pytest.approx(0.3)


@given(affines(), st.tuples(*[st.integers(1, 40)] * 3), affines())
def test_displacement_is_the_largest_over_all_voxels(
    affine: Affine, shape: tuple[int, int, int], other: Affine
) -> None:
    indices = np.array(list(itertools.product(*([0, n // 2, n - 1] for n in shape))), float)
    all_apart = np.linalg.norm(affine.apply(indices) - other.apply(indices), axis=1)
    assert affine.displacement(other, shape) == pytest.approx(all_apart.max())
    assert affine.is_close(other, all_apart.max() + 1e-6, shape)


def test_is_close_measures_millimetres_at_the_far_corner() -> None:
    first, second = Affine(np.eye(4)), Affine(np.diag([1.0001, 1, 1, 1]))
    assert first.is_close(second)
    assert not first.is_close(second, shape=(500, 1, 1))
    assert first.is_close(second, 0.05, shape=(500, 1, 1))
    assert not first.is_close(Affine(np.eye(3)))


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.eye(5), "shape"),
        (np.eye(4)[:3], "shape"),
        (np.full((4, 4), np.nan), "finite"),
        (np.diag([1, 1, 0, 1]), "invertible"),
        (np.ones((4, 4)), "last row"),
        (np.diag([1, np.inf, 1, 1]), "finite"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "invertible"),
        ("nonsense", "numbers"),
    ],
)
def test_damaged_matrices_are_refused(matrix: object, word: str) -> None:
    with pytest.raises(GeometryError, match=word):
        Affine(matrix)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parts",
    [
        {"spacing": (1, 0, 1)},
        {"spacing": (1, -1, 1)},
        {"spacing": (1, np.nan, 1)},
        {"spacing": (1, 1, 1), "direction": 2 * np.eye(3)},
        {"spacing": (1, 1, 1), "origin": (0, 0)},
    ],
)
def test_damaged_parts_are_refused(parts: dict) -> None:
    with pytest.raises(GeometryError):
        Affine.from_parts(**parts)


def test_an_affine_is_a_value() -> None:
    source = np.eye(4)
    affine = Affine(source)
    source[0, 0] = 5
    assert affine == Affine(np.eye(4))
    assert hash(affine) == hash(Affine(np.diag([1, 1, 1, 1.0]) + 0.0 * -1))
    assert pickle.loads(pickle.dumps(affine)) == affine
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 2
    with pytest.raises(AttributeError):
        affine.matrix = np.eye(4)  # type: ignore[misc]
    with pytest.raises(GeometryError, match="3 coordinates"):
        affine.apply([1, 2])
    with pytest.raises(GeometryError):
        affine @ Affine(np.eye(3))


def test_tiny_voxels_are_not_taken_for_a_singular_matrix() -> None:
    assert Affine.from_parts((1e-5, 1e-5, 1e-5)).spacing == (1e-5, 1e-5, 1e-5)
