"""Resampling: what is linear in space stays as it is, where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nibabel.eulerangles import euler2mat

from volseg.geometry import Affine, stack_slices
from volseg.io import affine_of, read_image
from volseg.io.dicom.resampling import along_slices, upright


def ramp(affine: Affine, shape: tuple[int, ...]) -> Any:
    """Return (1, x, y, z) values that are linear in world positions."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (affine.apply(indices) @ [1.0, -2.0, 3.0])[np.newaxis]


@pytest.mark.parametrize("shear", [(0.0, 0.9), (-0.7, 0.0), (0.6, -1.3)])
@pytest.mark.parametrize("turn", [np.eye(3), euler2mat(0.4, -0.3, 1.0)])
def test_upright_volumes_show_the_same_world(shear: tuple[float, float], turn: Any) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.array([[0.8, 0, shear[0]], [0, 1.1, shear[1]], [0, 0, 2.5]])
    matrix[:3, 3] = [-20, 7, 100]
    affine = Affine(matrix)
    values = ramp(affine, (20, 24, 9))
    moved, straight = upright(values, affine)
    assert straight.is_orthogonal(1e-9)
    assert straight.spacing == pytest.approx((0.8, 1.1, 2.5))
    inside = moved[0] != values.min()
    np.testing.assert_allclose(
        moved[0][inside], ramp(straight, moved.shape[1:])[0][inside], atol=1e-9
    )
    # Of each slice at most a row and a column lie between a voxel and what is outside.
    assert inside.sum() >= 9 * 19 * 23
    corners = straight.inverse().apply(affine.apply([[0, 0, 0], [19, 23, 8]]))
    assert corners.min() >= -1e-6
    assert np.all(corners <= np.array(moved.shape[1:]) - 1 + 1e-6)


def test_whole_numbers_are_rounded_not_cut() -> None:
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[0, 2] = 0.7
    values = np.zeros((1, 3, 2, 2), np.int16)
    values[0, :, :, 1] = np.array([0, 9, 20])[:, None]
    moved, _ = upright(values, Affine(matrix))
    assert moved.dtype == np.int16
    assert moved[0, :, 0, 1].tolist() == [0, 3, 12, 0]  # of 2.7 and 12.3


def test_slices_between_are_interpolated_and_the_others_kept() -> None:
    heights = np.array([0.0, 2.0, 4.0, 8.0, 10.0])
    positions = heights[:, None] * [0.1, 0.2, 1.0]
    cosines = np.tile([1.0, 0, 0, 0, 1, 0], (5, 1))
    stack = stack_slices(positions, cosines, np.ones((5, 2)), irregular=True)
    random = np.random.default_rng(0).integers(-500, 500, (2, 3, 4, 5)).astype(np.int16)
    found = along_slices(random, stack)
    np.testing.assert_array_equal(found[..., [0, 1, 2, 4, 5]], random)
    middle = (random[..., 2].astype(float) + random[..., 3]) / 2
    assert np.abs(found[..., 3] - middle).max() <= 0.5
    linear = np.broadcast_to(heights, (1, 3, 4, 5))
    np.testing.assert_allclose(along_slices(linear, stack)[0, 0, 0], np.arange(6) * 2.0)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_gaps_and_tilt_come_together(synthetic: Any, tmp_path: Path, orthogonal: bool) -> None:
    series = synthetic(
        shape=(12, 14, 6), places=(0, 1, 2, 3, 5, 6), shear=(0.0, -0.9), kind="int16"
    )
    series.write(tmp_path)
    image = read_image(tmp_path, irregular="resample", orthogonal=orthogonal)
    assert image.shape[3] == 7
    assert affine_of(image).is_orthogonal() is orthogonal
    assert image.shape[2] == (14 if not orthogonal else 14 + 6)  # 6 steps of 0.9 mm of 0.9 mm
