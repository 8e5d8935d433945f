import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage
from scipy.spatial.distance import cdist

from volseg.errors import InputError, ShapeError
from volseg.metrics import (
    average_surface_distance,
    class_boxes,
    hausdorff95,
    surface_dice,
    surface_distances,
)


def blobs(seed: int, dimensions: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two overlapping random blobs that reach the edge of the image, and an uneven spacing."""
    rng = np.random.default_rng(seed)
    shape = (24, 20, 16)[:dimensions]
    common = rng.normal(size=shape)
    masks = []
    for _ in range(2):
        smooth = ndimage.gaussian_filter(common + 0.4 * rng.normal(size=shape), 2)
        masks.append(smooth > np.quantile(smooth, 0.8))
    return masks[0], masks[1], tuple(rng.uniform(0.3, 4, dimensions))


def as_monai(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None, None]).float()


# MONAI 1.6 calls its own deprecated argument.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_monai(seed, dimensions):
    prediction, reference, spacing = blobs(seed, dimensions)
    tensors = as_monai(prediction), as_monai(reference)
    options = {"include_background": True, "spacing": spacing}
    distances = surface_distances(prediction, reference, spacing=spacing)
    for percentile in (95, 100):
        expected = compute_hausdorff_distance(*tensors, percentile=percentile, **options)
        assert distances.hausdorff(percentile) == pytest.approx(expected.item(), rel=1e-5)
    expected = compute_average_surface_distance(*tensors, symmetric=True, **options)
    assert distances.average() == pytest.approx(expected.item(), rel=1e-5)
    for tolerance in (0.0, 1.0, 2.5):
        expected = compute_surface_dice(*tensors, class_thresholds=[tolerance], **options)
        assert distances.dice(tolerance) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_agrees_with_the_distance_transform_of_scipy(dimensions):
    prediction, reference, spacing = blobs(11, dimensions)
    borders = [m & ~ndimage.binary_erosion(m, border_value=0) for m in (prediction, reference)]
    fields = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    distances = surface_distances(prediction, reference, spacing=spacing)
    np.testing.assert_allclose(distances.from_prediction, fields[1][borders[0]])
    np.testing.assert_allclose(distances.from_reference, fields[0][borders[1]])


def tilted(spacing: tuple[float, ...], degrees: float) -> np.ndarray:
    """Steps of a stack of slices whose gantry was tilted: the last axis leans towards the first."""
    steps = np.diag(spacing)
    angle = np.deg2rad(degrees)
    steps[[0, -1], -1] = spacing[-1] * np.array([np.sin(angle), np.cos(angle)])
    return steps


@pytest.mark.parametrize("dimensions", [2, 3])
def test_axes_that_are_not_at_right_angles_have_the_distances_of_the_world(dimensions):
    prediction, reference, spacing = blobs(5, dimensions)
    steps = tilted(spacing, 25)
    world = [
        np.argwhere(mask & ~ndimage.binary_erosion(mask)) @ steps.T
        for mask in (prediction, reference)
    ]
    expected = cdist(*world)
    distances = surface_distances(prediction, reference, spacing=steps)
    np.testing.assert_allclose(distances.from_prediction, expected.min(axis=1))
    np.testing.assert_allclose(distances.from_reference, expected.min(axis=0))
    plain = surface_distances(prediction, reference, spacing=spacing)
    assert distances.average() != pytest.approx(plain.average(), rel=0.01)


def test_an_oblique_image_has_the_numbers_of_a_straight_one():
    prediction, reference, spacing = blobs(5, 3)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = surface_distances(prediction, reference, spacing=turn @ np.diag(spacing))
    plain = surface_distances(prediction, reference, spacing=spacing)
    np.testing.assert_allclose(turned.from_prediction, plain.from_prediction, rtol=1e-12)


def test_two_parallel_planes_by_hand():
    labels = np.zeros((2, 10, 4, 4), np.uint8)
    labels[0, 2] = labels[1, 5] = 3  # planes 3 voxels apart
    options = {"spacing": (0.1, 1.0, 1.0), "label": 3}
    assert hausdorff95(*labels, **options) == pytest.approx(0.3)
    assert average_surface_distance(*labels, **options) == pytest.approx(0.3)
    # 5 * 0.1 - 2 * 0.1 is more than 0.3 in floating point; exactly the tolerance still counts.
    assert surface_dice(*labels, tolerance_mm=0.3, **options) == 1
    assert surface_dice(*labels, tolerance_mm=0.2999, **options) == 0


def test_the_95th_percentile_is_of_each_direction():
    reference = np.zeros((40, 1), np.uint8)
    reference[:4] = 1
    prediction = reference.copy()
    prediction[39] = 1  # one of five border voxels is 36 mm away, none in the other direction
    distances = surface_distances(prediction, reference, spacing=(1, 1))
    assert distances.hausdorff(95) == pytest.approx(np.percentile([0, 0, 0, 0, 36], 95))
    assert distances.hausdorff(100) == 36


EMPTY, FULL = np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (EMPTY, EMPTY, [np.nan, np.nan, np.nan]),
        (FULL, EMPTY, [np.inf, np.inf, 0]),
        (EMPTY, FULL, [np.inf, np.inf, 0]),
        (FULL, FULL, [0, 0, 1]),
    ],
)
def test_empty_classes_follow_the_table(prediction, reference, expected):
    options = {"spacing": (1, 2, 3)}
    found = [
        hausdorff95(prediction, reference, **options),
        average_surface_distance(prediction, reference, **options),
        surface_dice(prediction, reference, tolerance_mm=1e9, **options),
    ]
    np.testing.assert_array_equal(found, expected)


def test_what_fills_all_that_is_known_has_no_surface():
    inside = np.pad(FULL, 1)
    part = np.pad(FULL[:2, :2, :2], (1, 3))
    options = {"spacing": (1, 2, 3), "ignored": inside == 0}
    # Both hold the class, and one of them ends nowhere.
    for pair in ((inside, inside), (inside, part), (part, inside)):
        distances = surface_distances(*pair, **options)
        found = distances.hausdorff(95), distances.average(), distances.dice(1)
        np.testing.assert_array_equal(found, [np.nan] * 3)
    for pair in ((inside, 0 * part), (0 * part, inside)):
        distances = surface_distances(*pair, **options)
        found = distances.hausdorff(95), distances.average(), distances.dice(1)
        np.testing.assert_array_equal(found, [np.inf, np.inf, 0])


def test_boxes_hold_each_label_of_both_maps():
    a, b = np.zeros((2, 6, 6), np.uint16)
    a[1, 2] = a[3, 3] = b[0, 5] = 300
    b[5, 5] = 2
    assert class_boxes(a, b) == {300: np.s_[0:4, 2:6], 2: np.s_[5:6, 5:6]}


def test_cropping_to_the_box_changes_nothing():
    prediction, reference, spacing = blobs(3, 3)
    [box] = class_boxes(prediction.astype(np.uint8), reference.astype(np.uint8)).values()
    whole = surface_distances(np.pad(prediction, 5), np.pad(reference, 5), spacing=spacing)
    part = surface_distances(prediction[box], reference[box], spacing=spacing)
    np.testing.assert_allclose(whole.from_prediction, part.from_prediction)


def test_unusable_options_are_named():
    with pytest.raises(InputError, match="3 positive numbers"):
        hausdorff95(FULL, FULL, spacing=(1, 1))
    with pytest.raises(InputError, match="none of which lies in the plane of the others"):
        hausdorff95(FULL, FULL, spacing=[[1, 0, 1], [0, 1, 1], [0, 0, 0]])
    with pytest.raises(InputError, match="at least 0"):
        surface_dice(FULL, FULL, spacing=(1, 1, 1), tolerance_mm=-1)
    with pytest.raises(ShapeError):
        hausdorff95(FULL, FULL[1:], spacing=(1, 1, 1))
