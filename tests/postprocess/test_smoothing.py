import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from volseg.errors import InputError
from volseg.postprocess import SmoothBoundaries, apply_rules, smooth_boundaries


def votes_of_scipy(labels, sigma_mm, spacing):
    """Gaussian-filtered indicator of each value; outside the image nothing votes."""
    sigma = [sigma_mm / step for step in spacing]
    return np.stack(
        [
            ndimage.gaussian_filter(
                (labels == value).astype(float), sigma, mode="constant", truncate=3
            )
            for value in range(labels.max() + 1)
        ]
    )


@pytest.mark.parametrize("shape", [(90, 70), (40, 75, 30)])
@pytest.mark.parametrize("sigma", [0.8, 1.6, 3.0])
def test_agrees_with_scipy_but_for_near_ties(shape, sigma):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 2)
    labels = np.digitize(noise, np.quantile(noise, [0.4, 0.7, 0.9])).astype(np.uint8)
    spacing = (1.0, 0.7, 2.5)[: len(shape)]
    votes = votes_of_scipy(labels, sigma, spacing)
    result = smooth_boundaries(labels, sigma_mm=sigma, spacing=spacing)
    ranked = np.sort(votes, axis=0)
    # The weights are rounded to 1/1024 of an axis: votes this close may go either way.
    clear = ranked[-1] - ranked[-2] > 0.01 * votes.sum(axis=0)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(result[clear], votes.argmax(axis=0)[clear])
    assert (result != labels).any()


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2), elements=st.integers(0, 3)))
@settings(max_examples=60, deadline=None)
def test_mirrored_maps_give_mirrored_results_unless_the_value_decides(labels):
    result = smooth_boundaries(labels, sigma_mm=1.3, spacing=(1, 0.8))
    mirrored = smooth_boundaries(labels[::-1, ::-1], sigma_mm=1.3, spacing=(1, 0.8))
    np.testing.assert_array_equal(mirrored[::-1, ::-1], result)


def test_flat_boundaries_stay_and_single_voxels_go():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:10] = 1
    labels[:, 10:] += 2
    np.testing.assert_array_equal(
        smooth_boundaries(labels, sigma_mm=1.5, spacing=(1, 1, 1))[:, :, 3:-3], labels[:, :, 3:-3]
    )
    speck = labels.copy()
    speck[4, 4, 4] = 0
    result = smooth_boundaries(speck, sigma_mm=1.5, spacing=(1, 1, 1))
    np.testing.assert_array_equal(result, labels)


def test_a_smooth_ball_is_rounder():
    grid = np.indices((40, 40, 40)) - 19.5
    truth = np.linalg.norm(grid, axis=0) < 12
    noisy = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=truth.shape), 0.5) * 6
    rough = (np.linalg.norm(grid, axis=0) + noisy < 12).astype(np.uint8)
    smooth = smooth_boundaries(rough, sigma_mm=1.5, spacing=(1, 1, 1))
    assert (smooth != truth).sum() < (rough != truth).sum() / 3


def test_a_tie_leaves_the_voxel_as_it_is():
    stripes = np.array([[1, 2, 1, 2, 1, 2, 1, 2]], np.uint8)[:, :2]
    np.testing.assert_array_equal(smooth_boundaries(stripes, sigma_mm=50, spacing=(1, 1)), stripes)


def test_other_classes_neither_lose_nor_win():
    labels = np.full((11, 11), 3, np.uint8)
    labels[3:8, 3:8] = 0
    labels[5, 5] = labels[0, 0] = 1
    expected = labels.copy()
    expected[5, 5] = 0  # background wins this one, and class 3 does not win the corner
    result = smooth_boundaries(labels, sigma_mm=1, spacing=(1, 1), classes=[1])
    np.testing.assert_array_equal(result, expected)


def test_borders_within_a_region_stay():
    random = np.random.default_rng(0)
    labels = np.zeros((30, 30), np.uint8)
    labels[5:25, 5:25] = random.integers(1, 3, (20, 20))
    labels[15, 25] = 1
    result = smooth_boundaries(labels, sigma_mm=1.2, spacing=(1, 1), region=[1, 2])
    both = (labels > 0) & (result > 0)
    np.testing.assert_array_equal(result[both], labels[both])
    as_one = smooth_boundaries((labels > 0).astype(np.uint8), sigma_mm=1.2, spacing=(1, 1))
    np.testing.assert_array_equal(result > 0, as_one > 0)
    assert result[15, 25] == 0


def test_a_region_wins_dents_for_the_class_around_them():
    labels = np.zeros((20, 20), np.uint8)
    labels[:10, :10], labels[10:, :10] = 1, 2
    labels[4, 9] = labels[15, 9] = 0
    labels[9, 10] = 1  # a bump, away from the dents
    result = smooth_boundaries(labels, sigma_mm=1.2, spacing=(1, 1), region=[1, 2])
    assert (result[4, 9], result[15, 9], result[9, 10]) == (1, 2, 0)


@given(arrays(np.uint8, (9, 8, 7), elements=st.integers(0, 3)), st.sampled_from([0.8, 1.3]))
@settings(max_examples=40, deadline=None)
def test_a_region_is_smoothed_as_the_one_class_that_it_is(labels, sigma):
    mask = (labels > 0).astype(np.uint8)
    options = {"sigma_mm": sigma, "spacing": (1, 1, 1.5)}
    result = smooth_boundaries(labels, region=[1, 2, 3], **options)
    np.testing.assert_array_equal(result > 0, smooth_boundaries(mask, **options) > 0)
    stays = (labels > 0) & (result > 0)
    np.testing.assert_array_equal(result[stays], labels[stays])


def test_a_class_that_is_kept_still_holds_its_region_up():
    """A thin cap would vanish: kept, it is no reason for the class below it to erode."""
    labels = np.zeros((40, 25), np.uint8)
    labels[10:29, 10:15], labels[29, 10:15] = 1, 2
    options = {"sigma_mm": 2.2, "spacing": (1, 1), "region": [1, 2]}
    plain = smooth_boundaries(labels, **options)
    kept = smooth_boundaries(labels, never_empty=True, **options)
    assert not (plain == 2).any()
    assert (plain == 1).any()
    np.testing.assert_array_equal(kept == 2, labels == 2)
    assert ((kept == 1) >= (plain == 1)).all()


def test_thick_slices_are_not_smoothed_across():
    labels = np.random.default_rng(0).integers(0, 2, (20, 20, 6)).astype(np.uint8)
    result = smooth_boundaries(labels, sigma_mm=1, spacing=(1, 1, 8))
    slices = [smooth_boundaries(labels[:, :, k], sigma_mm=1, spacing=(1, 1)) for k in range(6)]
    np.testing.assert_array_equal(result, np.stack(slices, axis=2))


def test_sigma_for_each_class_is_one_rule_after_the_other():
    labels = np.random.default_rng(0).integers(0, 3, (25, 25)).astype(np.uint8)
    both = apply_rules(labels, [SmoothBoundaries(sigma_mm={1: 0.9, 2: 1.8})], spacing=(1, 1))
    first = smooth_boundaries(labels, sigma_mm=0.9, spacing=(1, 1), classes=[1])
    second = smooth_boundaries(first, sigma_mm=1.8, spacing=(1, 1), classes=[2])
    np.testing.assert_array_equal(both, second)


@pytest.mark.parametrize("sigma", [0, -1.0, float("inf"), None, {2: -1}])
def test_unusable_widths_are_named(sigma):
    with pytest.raises(InputError, match="above 0 mm"):
        SmoothBoundaries(sigma_mm=sigma)
