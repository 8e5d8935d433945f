"""Grids: volume, corners, mapping between grids, and the check that two are one."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.eulerangles import euler2mat

from volseg.errors import GeometryError
from volseg.geometry import Affine, Grid, index_mapping, require_same_grid


def test_measures() -> None:
    grid = Grid((10, 20, 30), Affine.from_parts((1, 2, 3), (5, 6, 7), euler2mat(0.2, 0.1, 0.4)))
    assert grid.voxel_volume == pytest.approx(6)
    assert grid.extent == pytest.approx((10, 40, 90))
    assert grid.corners.shape == (8, 3)
    np.testing.assert_allclose(grid.corners[0], (5, 6, 7))
    np.testing.assert_allclose(grid.corners[-1], grid.affine.apply((9, 19, 29)))
    np.testing.assert_allclose(grid.centre, grid.corners.mean(axis=0))
    assert Grid((4, 5), Affine(np.diag([0.5, 2, 1]))).voxel_volume == pytest.approx(1)


def test_shear_keeps_the_volume() -> None:
    matrix = np.eye(4)
    matrix[0, 2] = 5.0
    assert Grid((2, 2, 2), Affine(matrix)).voxel_volume == pytest.approx(1)


def test_index_mapping_meets_in_the_world() -> None:
    source = Grid((9, 9, 9), Affine.from_parts((1, 1, 2), (0, 1, 2), euler2mat(0.3, 0, 0)))
    target = Grid((5, 5, 5), Affine.from_parts((2, 2, 2), (3, 2, 1)))
    index = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        source.affine.apply(index_mapping(source, target).apply(index)), target.affine.apply(index)
    )


def test_same_grid_allows_rounding_only() -> None:
    affine = Affine.from_parts((0.8, 0.8, 3), (-120, 40, 7), euler2mat(0.3, 0.2, 0.1))
    rounded = Affine(affine.matrix.astype(np.float32))
    require_same_grid(Grid((256, 256, 40), affine), Grid((256, 256, 40), rounded))
    moved = affine.matrix.copy()
    moved[0, 3] += 0.02
    with pytest.raises(GeometryError, match=r"up to 0\.02 mm.*at most 0\.008 mm"):
        require_same_grid(Grid((256, 256, 40), affine), Grid((256, 256, 40), Affine(moved)))
    require_same_grid(
        Grid((256, 256, 40), affine), Grid((256, 256, 40), Affine(moved)), tolerance_mm=0.05
    )


def test_the_message_shows_both_grids() -> None:
    first = Grid((4, 5, 6), Affine(np.eye(4)))
    with pytest.raises(GeometryError) as caught:
        require_same_grid(first, Grid((4, 5, 7), Affine(np.diag([-1, 1, 2, 1]))), what="a and b")
    message = str(caught.value)
    assert message.startswith("a and b must")
    for part in ("4 x 5 x 6", "4 x 5 x 7", "RAS", "LAS", "1 x 1 x 2 mm"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("shape", [(1, 2), (0, 1, 1), (1, 2, 3, 4)])
def test_shapes_that_do_not_suit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError):
        Grid(shape, Affine(np.eye(4)))
