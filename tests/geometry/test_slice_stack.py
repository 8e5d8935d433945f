"""Slice stacks: the affine of shuffled uniform slices, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from volseg.errors import GeometryError
from volseg.geometry import Affine, SliceStack, StackError, stack_slices

ROW, COLUMN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def stack(
    heights: list[float],
    *,
    turn: np.ndarray | None = None,
    tilt_degrees: float = 0.0,
    **changes: np.ndarray,
) -> SliceStack:
    turn = np.eye(3) if turn is None else turn
    step = np.array([0, np.tan(np.deg2rad(tilt_degrees)), 1.0])
    values = {
        "positions": (np.array(heights)[:, None] * step + [7, 8, 9]) @ turn.T,
        "orientations": np.tile(np.r_[turn @ ROW, turn @ COLUMN], (len(heights), 1)),
        "pixel_spacings": np.tile([0.7, 0.5], (len(heights), 1)),
    }
    return stack_slices(**(values | changes))  # type: ignore[arg-type]


@given(
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.permutations(range(6)),
    st.floats(0.3, 9),
)
def test_affine_and_order_of_shuffled_slices(
    turns: tuple[float, float, float], order: list[int], gap: float
) -> None:
    turn = euler2mat(*turns)
    found = stack([gap * place for place in order], turn=turn)
    assert [order[number] for number in found.order] == list(range(6))
    expected = np.eye(4)
    expected[:3, :3] = turn @ np.diag([0.5, 0.7, gap])
    expected[:3, 3] = turn @ [7, 8, 9]
    np.testing.assert_allclose(found.affine.matrix, Affine.from_lps(expected).matrix, atol=1e-9)


def test_pixel_spacing_is_rows_first() -> None:
    assert stack([0, 1]).affine.spacing == pytest.approx((0.5, 0.7, 1.0))


def test_rounding_of_positions_is_allowed() -> None:
    heights = [round(k * 0.3333, 3) for k in range(100)]
    assert stack(heights).affine.spacing[2] == pytest.approx(0.3333, abs=1e-4)


@pytest.mark.parametrize(
    ("heights", "sentence"),
    [
        ([0], "single slice"),
        ([0, 1, 1, 2], r"1 repeated \(at 10.0 mm"),
        ([0, 0, 1, 1], r"2 repeated \(at 9.0, 10.0 mm"),
        ([0, 1, 2, 4, 5], r"gaps of 1 to 2 mm .*11.000 to 13.000"),
        ([0, 1, 2, 2.5, 3], "equal gaps"),
    ],
)
def test_uneven_stacks_are_refused(heights: list[float], sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        stack(heights)


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(-30, 30))
def test_gantry_tilt_is_kept_as_a_shear(turns: tuple[float, float, float], tilt: float) -> None:
    turn = euler2mat(*turns)
    found = stack([0, 2, 4], turn=turn, tilt_degrees=tilt)
    assert np.rad2deg(found.tilt) == pytest.approx(abs(tilt), abs=1e-6)
    assert np.rad2deg(found.affine.shear) == pytest.approx(abs(tilt), abs=1e-5)
    step = turn @ [0, 2 * np.tan(np.deg2rad(tilt)), 2]
    np.testing.assert_allclose(found.affine.to_lps()[:3, 2], step, atol=1e-9)


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0, 1, 2, 4, 5], [0, 1, 2, 4, 5]),
        ([0, 5, 10, 20], [0, 1, 2, 4]),
        ([0, 4, 8, 12, 13, 20], [0, 1, 2, 3, 3.25, 5]),
    ],
)
def test_irregular_stacks_say_where_their_slices_lie(
    heights: list[float], places: list[float]
) -> None:
    found = stack(heights, irregular=True, tilt_degrees=10)
    assert found.places == pytest.approx(places)
    assert found.size == places[-1] + 1
    assert not found.is_regular
    assert found.affine.spacing[2] == pytest.approx(
        heights[-1] / places[-1] / np.cos(np.deg2rad(10))
    )


def test_a_regular_stack_stays_what_it_is_where_gaps_may_differ() -> None:
    assert stack([0, 2, 4, 6], irregular=True) == stack([0, 2, 4, 6])


def test_wide_gaps_and_bends_are_refused_where_gaps_may_differ() -> None:
    with pytest.raises(StackError, match=r"13.000 to 25.000 .*invented") as caught:
        stack([0, 2, 4, 16, 18], irregular=True)
    assert caught.value.heights == pytest.approx([13, 25])
    bent = np.array([[0.0, 0, 0], [0, 0, 1], [0, 2, 2], [0, 0, 4]])
    with pytest.raises(StackError, match="one straight line"):
        stack([0, 1, 2, 4], irregular=True, positions=bent)


def test_refusals_name_the_slices_and_what_would_help() -> None:
    with pytest.raises(StackError) as caught:
        stack([0, 1, 2, 4, 5])
    assert caught.value.heights == pytest.approx([11, 13])
    assert caught.value.choice == "irregular"
    with pytest.raises(StackError) as caught:
        stack([0, 1, 2, 40, 41])
    assert caught.value.choice == ""


@pytest.mark.parametrize("gap", [1.25, 0.625, 0.35])
def test_positions_of_one_decimal_are_only_as_uneven_as_that(gap: float) -> None:
    heights = [round(k * gap, 1) for k in range(60)]
    if gap < 1.0:  # more than a twentieth of a gap: it is not known where they lie
        with pytest.raises(StackError):
            stack(heights)
    else:
        assert stack(heights).affine.spacing[2] == pytest.approx(gap, abs=1e-3)
    with pytest.raises(StackError, match="gaps"):
        stack([*heights[:30], *heights[31:]])


def test_drift_that_adds_up_is_refused() -> None:
    heights = np.cumsum(1 + 0.009 * np.sign(np.arange(200) - 100))
    with pytest.raises(GeometryError, match="straight"):
        stack(heights.tolist())


def test_slices_must_agree() -> None:
    coronal = np.array([[1.0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]])
    with pytest.raises(GeometryError, match=r"parallel.*localizer"):
        stack([0, 1], orientations=coronal)
    with pytest.raises(GeometryError, match="one pixel spacing"):
        stack([0, 1], pixel_spacings=np.array([[0.7, 0.5], [0.7, 0.6]]))
    with pytest.raises(GeometryError, match="positive"):
        stack([0, 1], pixel_spacings=np.array([[0.7, 0.0], [0.7, 0.0]]))
    with pytest.raises(GeometryError, match="perpendicular unit"):
        stack([0, 1], orientations=np.tile([1.0, 0, 0, 1, 0, 0], (2, 1)))
    with pytest.raises(GeometryError, match="finite"):
        stack([0, 1], positions=np.array([[0, 0, np.nan], [0, 0, 1]]))
    with pytest.raises(GeometryError, match="one position, orientation"):
        stack([0, 1], pixel_spacings=np.ones((3, 2)))
