"""Slice stacks: the affine of shuffled uniform slices, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from volseg.errors import GeometryError
from volseg.geometry import Affine, SliceStack, stack_slices

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


def test_gantry_tilt_is_named_in_degrees() -> None:
    with pytest.raises(GeometryError, match=r"tilted by 15\.0 degrees"):
        stack([0, 2, 4], tilt_degrees=15)
    nearly = stack([0, 2, 4], tilt_degrees=0.1)
    assert np.rad2deg(nearly.affine.shear) == pytest.approx(0.1, abs=1e-6)


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
