"""Rician noise and low resolution: against their laws, and replayed from their record."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd
from torch.nn.functional import interpolate

from volseg.errors import InputError
from volseg.transforms import (
    RandLowResolutiond,
    RandRicianNoised,
    add_rician_noise,
    lower_resolution,
)

AFFINE = np.diag([1.0, 0.5, 3.0, 1.0])
TRANSFORMS = [
    (RandRicianNoised("image", 1.0, std=(0.2, 0.6)), add_rician_noise),
    (RandLowResolutiond("image", 1.0, factor=(2.0, 4.0)), lower_resolution),
]


def image(*shape: int) -> MetaTensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=AFFINE, meta={"filename_or_obj": "a"})


@pytest.mark.parametrize("shape", [(1, 12, 14), (2, 12, 10, 8)])
@pytest.mark.parametrize(("transform", "function"), TRANSFORMS)
def test_one_seed_gives_one_result_and_the_record_replays_it(transform, function, shape):
    data = {"image": image(*shape)}
    before = data["image"].clone()
    first = transform.set_random_state(3)(data)["image"]
    again = transform.set_random_state(3)(data)["image"]
    others = [transform.set_random_state(seed)(data)["image"] for seed in range(4, 10)]
    assert torch.equal(first, again)
    # Coarse grids are few, so single seeds may agree.
    assert sum(torch.equal(first, other) for other in others) < 3
    assert torch.equal(data["image"], before)
    record = first.applied_operations[-1]["extra_info"]
    assert torch.equal(function(before.as_tensor(), **record), first.as_tensor())
    assert first.dtype == torch.float32
    np.testing.assert_array_equal(first.affine, AFFINE)
    assert first.meta["filename_or_obj"] == "a"


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_in_a_composition_the_inverse_passes_them_by(prob):
    compose = Compose(
        [
            Flipd("image", 0),
            RandRicianNoised("image", prob),
            Flipd("image", 1),
            RandLowResolutiond("image", prob),
        ]
    ).set_random_state(0)
    data = compose({"image": image(1, 8, 9, 10)})
    data["pred"] = MetaTensor(data["image"].as_tensor().clone())
    inverted = Invertd("pred", compose, "image", nearest_interp=False)(data)["pred"]
    torch.testing.assert_close(inverted.as_tensor(), data["image"].flip(1, 2).as_tensor())


def test_all_keys_share_one_draw_and_none_changes_without_luck():
    data = {"a": image(1, 9, 9), "b": image(1, 9, 9)}
    shared = RandLowResolutiond(["a", "b"], 1.0).set_random_state(1)(data)
    assert torch.equal(shared["a"].as_tensor(), shared["b"].as_tensor())
    # The noise of two images is as strong, but another.
    noisy = RandRicianNoised(["a", "b"], 1.0, std=(1.0, 1.0)).set_random_state(1)(data)
    drawn = [noisy[key].applied_operations[-1]["extra_info"] for key in "ab"]
    assert drawn[0]["std"] == drawn[1]["std"]
    assert not torch.equal(noisy["a"].as_tensor(), noisy["b"].as_tensor())
    never = RandLowResolutiond(["a", "b"], 0.0)(data)
    assert torch.equal(never["a"].as_tensor(), data["a"].as_tensor())


def test_the_noise_has_the_moments_of_a_rician_distribution():
    """Second moment signal^2 + 2 std^2; without signal a Rayleigh mean of std sqrt(pi / 2)."""
    std = 0.3
    for signal in (0.0, 0.5, 2.0):
        noisy = add_rician_noise(torch.full((200_000,), signal), std=std, seed=5)
        assert (noisy >= 0).all()
        expected = signal**2 + 2 * std**2
        assert noisy.square().mean().item() == pytest.approx(expected, rel=0.01)
        if signal == 0:
            assert noisy.mean().item() == pytest.approx(std * np.sqrt(np.pi / 2), rel=0.01)


@pytest.mark.parametrize("shape", [(2, 12, 16), (1, 12, 8, 16)])
def test_whole_factors_are_averages_and_linear_interpolation_of_torch(shape):
    values = image(*shape).as_tensor()
    sizes = [shape[1] // 4, *(side // 2 for side in shape[2:])]
    mode = "bilinear" if len(shape) == 3 else "trilinear"
    coarse = interpolate(values[None], size=sizes, mode="area")
    expected = interpolate(coarse, size=shape[1:], mode=mode, align_corners=False)[0]
    found = lower_resolution(values, factors=[4.0] + [2.0] * (len(shape) - 2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("factor", [1.3, 2.7, 5.0, 100.0])
def test_any_factor_keeps_constants_and_does_not_shift(factor):
    constant = torch.full((1, 15, 11), 3.0)
    torch.testing.assert_close(lower_resolution(constant, factors=[factor, 1.0]), constant)
    values = image(1, 15, 11).as_tensor()
    mirrored = lower_resolution(values.flip(1), factors=[factor, 1.0]).flip(1)
    torch.testing.assert_close(lower_resolution(values, factors=[factor, 1.0]), mirrored)
    assert torch.equal(lower_resolution(values, factors=[1.0, 1.0]), values)


def test_draws_stay_in_their_ranges_and_at_least_one_axis_is_coarser():
    transform = RandLowResolutiond("image", factor=(2.0, 3.0), axis_prob=0.3).set_random_state(0)
    drawn = [transform.draw(3)["factors"] for _ in range(300)]
    assert all(any(f > 1 for f in factors) for factors in drawn)
    assert all(f == 1 or 2 <= f <= 3 for factors in drawn for f in factors)
    assert len({sum(f > 1 for f in factors) for factors in drawn}) == 3
    # 0.3 each, and a third of the 0.7 ** 3 draws in which no axis would be.
    shares = np.mean([[f > 1 for f in factors] for factors in drawn], axis=0)
    np.testing.assert_allclose(shares, 0.3 + 0.7**3 / 3, atol=0.07)
    alike = RandLowResolutiond("image", axis_prob=1.0, isotropic=True).draw(3)["factors"]
    assert len(set(alike)) == 1


def test_ranges_that_cannot_be_meant_are_refused():
    for wrong in ((-1.0, 1.0), (2.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(InputError, match="two ascending numbers"):
            RandRicianNoised("image", std=wrong)
    with pytest.raises(InputError, match="of at least 1"):
        RandLowResolutiond("image", factor=(0.5, 1.0))
    with pytest.raises(InputError, match="expected a probability"):
        RandLowResolutiond("image", axis_prob=1.5)
