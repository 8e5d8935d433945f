"""A standardisation fitted on a volume in parts gives the bits that it gives in memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from volseg.errors import InputError
from volseg.transforms import standardization

WAYS = {
    "zscore": ("zscore", {}, 1),
    "zscore nonzero": ("zscore", {"region": "nonzero", "outside": -3.0}, 1),
    "zscore above mean": ("zscore", {"region": "above_mean", "outside": 0.0}, 2),
    "percentile": ("percentile", {}, 2),
    "percentile nonzero": ("percentile", {"region": "nonzero", "clip": False}, 2),
    "percentile above mean": ("percentile", {"region": "above_mean"}, 3),
    "window": ("window", {"lower": 100, "upper": 400}, 0),
    "foreground": ("foreground", {"lower": 100, "upper": 400, "mean": 210.3, "std": 70.1}, 0),
    "nyul": ("nyul", {"percents": (1, 50, 99), "landmarks": (0, 40, 100)}, 2),
    "nyul whole": ("nyul", {"percents": (1, 99), "landmarks": (0, 100), "region": "whole"}, 2),
    "nyul above mean": (
        "nyul",
        {"percents": (1, 50, 99), "landmarks": (0, 40, 100), "region": "above_mean"},
        3,
    ),
}

ways = pytest.mark.parametrize("way", WAYS)


def tissue(*shape: int) -> torch.Tensor:
    random = np.random.default_rng(7)
    values = random.gamma(4, 60, shape) * (random.random(shape) > 0.3)
    values *= np.arange(1, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1))
    return torch.from_numpy(values.astype(np.float32))


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(found.view(torch.int32), expected.view(torch.int32))


def method(way: str):
    return standardization(*WAYS[way][:2])


@ways
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("thickness", [1, 5])
def test_slabs_along_any_axis(way, axis, thickness):
    image = tissue(2, 13, 11, 17)
    expected = method(way).apply(image)
    slabs = image.split(thickness, dim=axis)
    standardise = method(way).fitted(lambda: iter(slabs))
    assert same_bits(torch.cat([standardise(slab) for slab in slabs], dim=axis), expected)


@ways
def test_voxels_in_any_order_and_in_parts_of_any_size(way):
    image = tissue(2, 3000)
    expected = method(way).apply(image)
    random = np.random.default_rng(8)
    order = torch.from_numpy(random.permutation(image.shape[1]))
    cuts = np.sort(random.integers(0, image.shape[1], 20)).tolist()
    parts = image[:, order].tensor_split(cuts, dim=1)
    standardise = method(way).fitted(lambda: parts)
    found = torch.cat([standardise(part) for part in parts], dim=1)
    assert same_bits(found, expected[:, order])


@ways
def test_no_pass_is_made_that_is_not_needed(way):
    image = tissue(3, 9, 8, 7)
    begun = []

    def parts():
        begun.append(1)
        return image.split(2, dim=1)

    method(way).fitted(parts)
    assert len(begun) == WAYS[way][2]


@ways
def test_the_order_of_memory_changes_nothing(way):
    image = tissue(2, 9, 8, 7)
    turned = image.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert turned.stride() != image.stride()
    for given, expected in ((turned, image), (turned[:1], image[:1])):
        found = method(way).apply(given)
        assert found.is_contiguous()
        assert same_bits(found, method(way).apply(expected))


@ways
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits(way):
    image = tissue(2, 33, 21, 17)
    found = method(way).apply(image.cuda())
    assert found.is_cuda
    assert same_bits(found.cpu(), method(way).apply(image))


def test_channels_may_need_different_numbers_of_passes():
    image = tissue(2, 9, 8, 7)
    mixed = standardization("zscore", [{"region": "above_mean"}, {}])
    slabs = image.split(3, dim=2)
    standardise = mixed.fitted(lambda: slabs)
    found = torch.cat([standardise(slab) for slab in slabs], dim=2)
    assert same_bits(found, mixed.apply(image))
    assert same_bits(found[1:], standardization("zscore").apply(image[1:]))


def test_extreme_values_are_standardised_as_in_double_precision():
    random = np.random.default_rng(9)
    for scale in (2.0**-140, 1e-39, 1e-31, 1e31, 1e38):
        values = (random.uniform(-3.3, 3.3, (1, 20, 20)) * scale).astype(np.float32)
        image, exact = torch.from_numpy(values), values.astype(float)
        low, high = np.percentile(exact, [10, 90])
        expected = {
            "zscore": (exact - exact.mean()) / exact.std(),
            "percentile": np.clip((exact - low) / (high - low), 0, 1),
            "window": np.clip(exact / scale, -1, 1),
        }
        parameters = {
            "percentile": {"lower": 10, "upper": 90},
            "window": {"lower": -scale, "upper": scale},
        }
        for name, reference in expected.items():
            found = standardization(name, parameters.get(name)).apply(image)
            np.testing.assert_allclose(found.numpy(), reference, atol=2e-6)


def test_a_large_offset_costs_no_precision():
    """The mean is no float32 there, and the difference from it is all that is left."""
    random = np.random.default_rng(10)
    values = (1e5 + random.normal(0, 0.5, (1, 30, 30))).astype(np.float32)
    exact = values.astype(float)
    found = standardization("zscore").apply(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, (exact - exact.mean()) / exact.std(), atol=1e-6)


@ways
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(way, value):
    image = tissue(1, 9, 8, 7)
    standardise = method(way).fitted(lambda: [image])
    damaged = image.clone()
    damaged[0, 3, 2, 1] = value
    with pytest.raises(InputError, match="not finite"):
        standardise(damaged)
    with pytest.raises(InputError, match="not finite"):
        method(way).apply(damaged)


def test_values_outside_of_the_mask_must_be_finite_as_well():
    image = tissue(1, 9, 8, 7)
    image[0, 0] = math.nan
    mask = torch.ones(9, 8, 7, dtype=torch.bool)
    mask[0] = False
    with pytest.raises(InputError, match="not finite"):
        standardization("zscore", {"region": "mask"}).apply(image, mask)


def test_mistakes_are_said():
    image = tissue(2, 9, 8, 7)
    with pytest.raises(InputError, match="the region is 'mask'"):
        standardization("zscore", {"region": "mask"}).fitted(lambda: [image])
    with pytest.raises(InputError, match="has 2 channels, but the standardisation is for 3"):
        standardization("zscore", [{}, {}, {}]).fitted(lambda: [image])
    with pytest.raises(InputError, match="the image is constant"):
        standardization("nyul", WAYS["nyul"][1]).fitted(lambda: [torch.ones(1, 4)])
    with pytest.raises(InputError, match="no voxel lies"):
        standardization("zscore", {"region": "nonzero"}).fitted(lambda: [torch.zeros(1, 4)])
