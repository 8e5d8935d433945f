"""Statistics of intensities against rational numbers and numpy, in any order and any parts."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from volseg.errors import InputError
from volseg.transforms.intensity_statistics import mean_and_std, percentiles, region_of
from volseg.transforms.tally import Inside, in_passes

PERCENTS = (0, 0.5, 10, 33, 50, 99.5, 100)

anything = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60
)


def moments(*parts: np.ndarray, inside: Inside | None = None) -> tuple[float, float]:
    return fitted(lambda: mean_and_std(inside or Inside()), *parts)


def found_percentiles(*parts: np.ndarray, inside: Inside | None = None) -> list[float]:
    return fitted(lambda: percentiles(PERCENTS, inside or Inside()), *parts)


def fitted(start, *parts: np.ndarray):
    tensors = [torch.from_numpy(np.asarray(part, np.float32))[None] for part in parts]
    (found,) = in_passes([start], lambda: tensors)
    return found


def random_values(kind: str, count: int = 50_000) -> np.ndarray:
    random = np.random.default_rng(5)
    values = {
        "tissue": lambda: random.gamma(4, 60, count) * (random.random(count) > 0.3),
        "integers": lambda: random.integers(-1024, 3072, count),
        "negative": lambda: -random.gamma(4, 60, count),
        "offset": lambda: 8e6 + random.integers(0, 3, count) / 2,
        "huge": lambda: random.normal(0, 1e38, count).clip(-3.4e38, 3.4e38),
        "denormal": lambda: random.integers(-9, 10, count) * 2.0**-149,
        "sixty decades": lambda: (
            random.normal(size=count) * 10.0 ** random.integers(-35, 30, count)
        ),
        "constant": lambda: np.full(count, 0.1),
    }[kind]()
    return values.astype(np.float32)


KINDS = (
    "tissue", "integers", "negative", "offset", "huge", "denormal", "sixty decades", "constant"
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(values=anything)
@example(values=[3.4028234663852886e38, -3.4028234663852886e38, 1.401298464324817e-45])
@example(values=[-0.0, 0.0])
@example(values=[1.1754943508222875e-38, 1.1754942106924411e-38])  # the edge of denormals
def test_moments_are_those_of_rational_numbers_rounded_once(values):
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum(value**2 for value in exact) / len(exact) - mean**2
    assert moments(values) == (float(mean), math.sqrt(float(variance)))


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_numpys(kind):
    values = random_values(kind)
    wide = values.astype(np.longdouble)  # where it is wider than float64, squares keep all digits
    mean, std = moments(values)
    scale = float(np.abs(wide).mean())
    assert mean == pytest.approx(float(wide.mean()), rel=1e-12, abs=1e-14 * scale)
    assert std == pytest.approx(float(wide.std()), rel=1e-12)
    assert (std == 0) == (kind == "constant")


@settings(max_examples=200, deadline=None)
@given(values=anything)
@example(values=[-0.0, 0.0, -(2.0**-149), 2.0**-149, -0.0])
def test_percentiles_are_numpys_bit_for_bit(values):
    assert found_percentiles(values) == np.percentile(np.float64(values), PERCENTS).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_of_many_values_are_numpys_bit_for_bit(kind):
    values = random_values(kind)
    assert found_percentiles(values) == np.percentile(values.astype(float), PERCENTS).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("region", ["whole", "nonzero", "above_mean"])
def test_order_parts_and_threads_change_no_bit(kind, region):
    values = random_values(kind, 600_000)
    if region != "whole" and kind == "constant":
        values[::2] = 0
    random = np.random.default_rng(6)

    def start():
        inside = yield from region_of(region)
        found = yield from mean_and_std(inside)
        return [*found, *(yield from percentiles(PERCENTS, inside))]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = fitted(start, values)
        shuffled = random.permutation(values)
        assert fitted(start, shuffled) == expected
        cuts = np.sort(random.integers(0, len(values), 7))
        assert fitted(start, *np.split(shuffled, cuts)) == expected
        torch.set_num_threads(3)
        assert fitted(start, values) == expected
    finally:
        torch.set_num_threads(threads)
    mean = values.mean(dtype=np.longdouble)
    chosen = {"whole": values == values, "nonzero": values != 0, "above_mean": values > mean}
    inside = values[chosen[region]].astype(float)
    assert expected[2:] == np.percentile(inside, PERCENTS).tolist()
    assert expected[1] == pytest.approx(float(inside.astype(np.longdouble).std()), rel=1e-12)


def test_zeros_of_both_signs_are_the_same_value():
    values = np.array([-0.0, 0.0, -0.0, 2, 4], np.float32)
    assert moments(values, inside=Inside(without=0.0)) == (3, 1)
    assert found_percentiles(values, inside=Inside(without=0.0))[4] == 3
    assert found_percentiles(values, inside=Inside(above=0.0))[0] == 2


def test_a_mask_says_which_values_count():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    inside = Inside(mask=torch.from_numpy(values % 5 == 0))
    assert moments(values, inside=inside) == (10, np.arange(0, 24, 5).std())
    assert found_percentiles(values, inside=inside)[-1] == 20


def test_memory_in_any_order_is_read():
    values = torch.rand(3, 5, 7)
    expected = values.double().std(correction=0).item()
    for view in (values, values.permute(2, 0, 1), values.flip(0), values[:, ::2, 1:]):
        _, std = in_passes([lambda: mean_and_std(Inside())], lambda view=view: [view[None]])[0]
        assert std == pytest.approx(view.double().std(correction=0).item(), rel=1e-12)
    assert moments(values.numpy()) == (values.double().mean().item(), pytest.approx(expected))


@pytest.mark.parametrize("start", [mean_and_std, lambda inside: percentiles((50,), inside)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("inside", [Inside(), Inside(without=0.0)])
def test_values_that_are_not_finite_are_found(start, value, inside):
    values = np.ones(10_000, np.float32)
    for place in (0, 4096, 9999):
        damaged = values.copy()
        damaged[place] = value
        with pytest.raises(InputError, match="not finite"):
            fitted(lambda: start(inside), damaged)
        damaged.view(np.uint32)[place] |= 0x80000000  # NaN has a sign, too
        with pytest.raises(InputError, match="not finite"):
            fitted(lambda: start(inside), values, damaged)


def test_regions_without_voxels_are_refused():
    for start in (mean_and_std, lambda inside: percentiles((50,), inside)):
        for parts in ([], [np.zeros(3)], [np.zeros(0), np.zeros(5)]):
            with pytest.raises(InputError, match="no voxel lies in the region"):
                fitted(lambda start=start: start(Inside(without=0.0)), *parts)
