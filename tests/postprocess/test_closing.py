import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.morphology import ball, closing, disk

from volseg.errors import InputError
from volseg.postprocess import CloseGaps, apply_rules, close_gaps

LABEL_MAPS = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 10)] * 2), elements=st.sampled_from([0, 0, 0, 1])),
    arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, 1, 2])),
)


def element(radius, spacing) -> np.ndarray:
    """The ball in mm on the grid."""
    reach = [int(radius // step) for step in spacing]
    offsets = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
    squares = sum((o * step) ** 2 for o, step in zip(offsets, spacing, strict=True))
    return squares <= radius**2 * (1 + 1e-9)


def closed_by_definition(labels, radius, spacing):
    """SciPy's dilation and erosion of each class; claims of several go to the nearest."""
    result, nearest = labels.copy(), np.full(labels.shape, np.inf)
    structure = element(radius, spacing)
    for value in np.unique(labels[labels > 0]):
        mask = labels == value
        filled = ndimage.binary_erosion(
            ndimage.binary_dilation(mask, structure), structure, border_value=1
        ) & (labels == 0)
        distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
        take = filled & (distance < nearest - 1e-9)
        result[take], nearest[take] = value, distance[take]
    return result


@given(LABEL_MAPS, st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), st.booleans())
@settings(max_examples=120, deadline=None)
def test_agrees_with_scipy(labels, radius, anisotropic):
    spacing = ((1.0, 0.6, 1.7) if anisotropic else (1.0, 1.0, 1.0))[: labels.ndim]
    result = close_gaps(labels, radius_mm=radius, spacing=spacing)
    np.testing.assert_array_equal(result, closed_by_definition(labels, radius, spacing))


@pytest.mark.parametrize(("radius", "shape"), [(3, (150, 140)), (4, (80, 70, 75))])
def test_agrees_with_skimage_over_several_bricks(radius, shape):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 2)
    # Away from the edge: skimage has another idea of what lies outside.
    mask = np.pad((smooth > np.quantile(smooth, 0.75)), 2 * radius)
    structure = disk(radius) if len(shape) == 2 else ball(radius)
    result = close_gaps(mask, radius_mm=radius, spacing=(1,) * len(shape))
    np.testing.assert_array_equal(result, closing(mask, structure))
    assert result.sum() > mask.sum()


def test_only_background_is_filled_and_only_chosen_classes_close():
    labels = np.array([[1, 2, 1, 0, 1, 3, 0, 3]], np.uint8)
    result = close_gaps(labels, radius_mm=1, spacing=(1, 1), classes=[1])
    assert result.tolist() == [[1, 2, 1, 1, 1, 3, 0, 3]]


def test_the_nearest_class_takes_a_gap_and_of_equally_near_ones_the_lowest():
    nested = np.array([[1, 2, 0, 0, 2, 1]], np.uint8)
    assert close_gaps(nested, radius_mm=3, spacing=(1, 1)).tolist() == [[1, 2, 2, 2, 2, 1]]
    cross = np.array([[0, 1, 0], [2, 0, 2], [0, 1, 0]], np.uint8)
    assert close_gaps(cross, radius_mm=1.5, spacing=(1, 1))[1, 1] == 1
    assert close_gaps(cross, radius_mm=1.5, spacing=(1.1, 1))[1, 1] == 2


def test_a_region_closes_as_one():
    labels = np.array([[1, 1, 0, 0, 2, 2]], np.uint8)
    alone = close_gaps(labels, radius_mm=1, spacing=(1, 1))
    np.testing.assert_array_equal(alone, labels)
    result = close_gaps(labels, radius_mm=1, spacing=(1, 1), region=[1, 2])
    assert result.tolist() == [[1, 1, 1, 2, 2, 2]]


def test_a_radius_for_each_class_is_each_class_closed_by_its_own():
    random = np.random.default_rng(1).random((40, 40))
    labels = np.where(random < 0.1, 1, np.where(random > 0.93, 2, 0)).astype(np.uint8)
    labels[:, 18:22] = 0  # two separate fields: no voxel is claimed twice
    labels[:, :18][labels[:, :18] == 2] = 0
    labels[:, 22:][labels[:, 22:] == 1] = 0
    both = apply_rules(labels, [CloseGaps(radius_mm={1: 2.0, 2: 1.0})], spacing=(0.7, 0.9))
    one = close_gaps(labels, radius_mm=2.0, spacing=(0.7, 0.9), classes=[1])
    two = close_gaps(labels, radius_mm=1.0, spacing=(0.7, 0.9), classes=[2])
    np.testing.assert_array_equal(both, np.maximum(one, two))


def test_the_radius_is_physical():
    labels = np.zeros((9, 9), np.uint8)
    labels[:, [3, 5]] = 1
    assert (close_gaps(labels, radius_mm=1.0, spacing=(1, 1))[:, 4] == 1).all()
    assert not close_gaps(labels, radius_mm=1.0, spacing=(1, 1.1))[:, 4].any()
    float32 = tuple(np.float32([0.7, 0.7]).tolist())
    assert (close_gaps(labels, radius_mm=0.7, spacing=float32)[:, 4] == 1).all()


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), "2", True, {1: 0}])
def test_unusable_radii_are_named(radius):
    with pytest.raises(InputError, match="above 0 mm"):
        CloseGaps(radius_mm=radius)
