import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from volseg.transforms.displacement import (
    FOLD_MARGIN,
    fold_bound,
    largest_displacement,
    node_weights,
    without_folds,
)


@pytest.mark.parametrize("nodes", [2, 3, 4, 7])
def test_node_values_are_reproduced(nodes):
    size = 12 * (nodes - 1) + 1
    values = np.random.default_rng(nodes).normal(0, 10, nodes)
    dense = node_weights(size, nodes) @ values
    np.testing.assert_allclose(dense[::12], values, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2, 5)])
def test_is_the_cubic_spline_of_scipy(shape):
    values = np.random.default_rng(0).normal(0, 10, shape)
    size = [17, 23, 9][: len(shape)]
    axes = [np.linspace(0, n - 1, s) for n, s in zip(shape, size, strict=True)]
    at = np.meshgrid(*axes, indexing="ij")
    expected = map_coordinates(values, at, order=3, mode="mirror")
    found = values
    for axis, s in enumerate(size):
        found = np.moveaxis(np.tensordot(node_weights(s, shape[axis]), found, (1, axis)), 0, axis)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def dense(values, size):
    for axis, s in enumerate(size, start=1):
        weights = node_weights(s, values.shape[axis])
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return values


def extent(size):
    return [n - 1 for n in size]


def smallest_jacobian(values, size):
    """Of central differences on a grid four times finer than the voxels."""
    fine = [4 * (s - 1) + 1 for s in size]
    field = dense(values, fine)
    axes = len(size)
    jacobian = np.stack(
        [np.stack(np.gradient(field[i], 0.25, axis=range(axes)), -1) for i in range(axes)], -2
    )
    return np.linalg.det(jacobian + np.eye(axes)).min()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    nodes=st.integers(2, 5),
    sigma=st.floats(0.1, 40.0),
    axes=st.integers(2, 3),
)
def test_what_is_let_through_never_folds(seed, nodes, sigma, axes):
    size = (24, 17, 9)[:axes]
    drawn = np.random.default_rng(seed).normal(0, sigma, (axes, *[nodes] * axes))
    kept = without_folds(drawn, extent(size))
    assert fold_bound(kept, extent(size)) <= FOLD_MARGIN + 1e-9
    assert smallest_jacobian(kept, size) > 0
    assert (np.abs(dense(kept, size)).reshape(axes, -1).max(1) <= largest_displacement(kept)).all()


def test_a_field_that_folds_is_scaled_down_and_a_gentle_one_is_not():
    size = (64, 64)
    strong = np.random.default_rng(1).normal(0, 30, (2, 3, 3))
    assert smallest_jacobian(strong, size) < 0
    kept = without_folds(strong, extent(size))
    np.testing.assert_allclose(kept / strong, (kept / strong).flat[0])
    gentle = np.random.default_rng(1).normal(0, 1, (2, 3, 3))
    assert without_folds(gentle, extent(size)) is gentle
