"""The weight map of the U-Net against its formula at every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from volseg.errors import InputError, ShapeError
from volseg.losses import border_weight_map, separate_touching_instances


def discs(sides: tuple[int, ...], count: int) -> np.ndarray:
    """Balls of two to four voxels at random places, some touching; numbers with holes."""
    random = np.random.default_rng(len(sides))
    grid = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1)
    instances = np.zeros(sides, np.int32)
    for index in range(count):
        centre = random.uniform(0, sides)
        inside = ((grid - centre) ** 2).sum(-1) < random.uniform(2, 4) ** 2
        instances[inside] = 1000 * index + 7
    return instances


def brute_force(instances: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """The formula pixel by pixel: the distance to every voxel of every instance."""
    numbers = np.unique(instances[instances > 0])
    voxels = [np.argwhere(instances == number) for number in numbers]
    share = np.mean(instances > 0)
    weights = np.empty(instances.shape)
    for place in np.ndindex(instances.shape):
        if instances[place] > 0:
            weights[place] = 0.5 / share
            continue
        distances = sorted(np.sqrt(((v - place) ** 2).sum(1).min()) for v in voxels)
        gap = np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        weights[place] = 0.5 / (1 - share) + w0 * gap
    return weights


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (10.0, 1.5), (3.0, 0.5), (0.0, 5.0)])
@pytest.mark.parametrize(("sides", "count"), [((48, 40), 12), ((12, 14, 10), 5)])
def test_every_weight_is_that_of_the_formula(sides, count, w0, sigma):
    instances = discs(sides, count)
    found = border_weight_map(instances, w0=w0, sigma=sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute_force(instances, w0, sigma), atol=1e-6, rtol=0)


def test_thin_gaps_weigh_more_than_wide_ones_and_instances_nothing_extra():
    instances = np.zeros((20, 60), int)
    for number, (start, stop) in enumerate([(0, 10), (11, 20), (25, 35)], start=1):
        instances[:, start:stop] = number
    weights = border_weight_map(instances, balance=False)
    # A gap of one voxel is 1 from both sides: 1 + 10 exp(-(1 + 1)^2 / 50).
    assert weights[10, 10] == pytest.approx(1 + 10 * np.exp(-4 / 50))
    assert (weights[10, 20:25] > 1).all()
    assert weights[10, 10] > weights[10, 20:25].max()
    assert (weights[instances > 0] == 1).all()
    assert weights[10, 59] == pytest.approx(1, abs=1e-3)


def test_balanced_weights_give_both_classes_the_same_sum():
    instances = discs((40, 40), 5)
    weights = border_weight_map(instances, w0=0)
    assert weights[instances > 0].sum() == pytest.approx(800)
    assert weights[instances == 0].sum() == pytest.approx(800)


@pytest.mark.parametrize("number", [0, 3])
def test_one_class_alone_weighs_one(number):
    assert (border_weight_map(np.full((5, 6), number)) == 1).all()


def test_one_instance_alone_has_no_gaps():
    instances = np.zeros((9, 9), int)
    instances[3:6, 3:6] = 4
    assert (border_weight_map(instances, balance=False) == 1).all()


def test_tensors_give_tensors():
    instances = discs((20, 20), 4)
    tensor = torch.from_numpy(instances)
    torch.testing.assert_close(
        border_weight_map(tensor.float()), torch.from_numpy(border_weight_map(instances))
    )
    separate = separate_touching_instances(tensor)
    assert separate.dtype == tensor.dtype
    assert (separate.numpy() == separate_touching_instances(instances)).all()


@pytest.mark.parametrize(("sides", "count"), [((40, 40), 30), ((14, 14, 14), 12)])
def test_separated_instances_are_the_components_of_their_mask(sides, count):
    instances = discs(sides, count)
    together = np.ones((3,) * len(sides))
    separate = separate_touching_instances(instances)
    components, found = label(separate, structure=together)
    # Before, at least two were one component; after, no component holds two.
    assert label(instances, structure=together)[1] < len(np.unique(instances)) - 1
    for index in range(1, found + 1):
        assert len(np.unique(separate[components == index])) == 1
    assert ((separate == instances) | (separate == 0)).all()


def test_the_border_between_touching_instances_is_one_voxel_of_high_weight():
    instances = np.zeros((12, 20), int)
    instances[2:10, 2:10], instances[2:10, 10:18] = 1, 2
    separate = separate_touching_instances(instances)
    assert np.unique(np.nonzero(separate != instances)[1]).tolist() == [9]
    weights = border_weight_map(separate, balance=False)
    assert weights[5, 9] == pytest.approx(1 + 10 * np.exp(-4 / 50))
    assert weights[5, 9] == weights.max()


def test_maps_and_options_that_cannot_be_meant_are_refused():
    for wrong in (np.zeros(5, int), np.zeros((1, 1, 5, 5), int), np.zeros((0, 5), int)):
        with pytest.raises(ShapeError, match="instance map has the shape"):
            border_weight_map(wrong)
    for value in (-1.0, 0.5, np.nan):
        with pytest.raises(InputError, match=f"instance map holds {value}"):
            border_weight_map(np.full((3, 3), value))
    for options in ({"w0": -1.0}, {"sigma": 0.0}, {"sigma": np.inf}):
        with pytest.raises(InputError, match="sigma above 0"):
            border_weight_map(np.zeros((3, 3), int), **options)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_gap_of_three_pixels_weighs_the_same_in_all_of_them(axis):
    """10 exp(-(1 + 3)^2 / 50) = 7.2615; with d1 - d2 it would be 9.2312, 10, 9.2312."""
    instances = np.zeros((20, 23), int)
    instances[:, 2:10], instances[:, 13:21] = 1, 2
    instances = np.moveaxis(instances, 1, axis)
    gap = np.moveaxis(border_weight_map(instances, balance=False) - 1, axis, 1)[:, 10:13]
    np.testing.assert_allclose(gap, 10 * np.exp(-16 / 50), rtol=1e-5)
    assert gap[10, 0] == pytest.approx(7.2615, abs=1e-4)


@pytest.mark.parametrize(("sides", "spacing"), [((24, 20), (2.0, 0.7)), ((9, 14, 10), (3, 0.5, 1))])
def test_with_a_spacing_distances_are_in_its_unit(sides, spacing):
    instances = discs(sides, 5)
    found = border_weight_map(instances, sigma=2.5, spacing=spacing, balance=False)
    numbers = np.unique(instances[instances > 0])
    for place in np.argwhere(instances == 0):
        distances = sorted(
            np.sqrt((((np.argwhere(instances == n) - place) * spacing) ** 2).sum(1).min())
            for n in numbers
        )
        expected = 1 + 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 2.5**2))
        assert found[tuple(place)] == pytest.approx(expected, abs=1e-6)
    same = border_weight_map(instances, sigma=5, spacing=(2,) * len(sides))
    np.testing.assert_allclose(same, border_weight_map(instances, sigma=2.5), atol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, np.inf)])
def test_a_spacing_that_cannot_be_meant_is_refused(spacing):
    with pytest.raises(InputError, match="one number above 0 for each axis"):
        border_weight_map(np.zeros((4, 4), int), spacing=spacing)
