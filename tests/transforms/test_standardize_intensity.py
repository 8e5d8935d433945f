"""Intensity standardisation against MONAI, numpy and distortions that are known."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensityRange
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from volseg.bundle import open_bundle
from volseg.bundle.building import build_parts
from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.io import as_image, write_image
from volseg.transforms import (
    StandardizeIntensityd,
    fit_standardization,
    read_standardization,
    standardization,
    write_standardization,
)
from volseg.transforms.intensity_statistics import IntensitySummary
from volseg.transforms.landmarks import landmark_map, mean_landmarks
from volseg.transforms.standardization_methods import Window

AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0, 2.5, -4], [0, 0.7, 0, 3], [0, 0, 0, 1.0]])


def image(*shape: int, seed: int = 0) -> MetaTensor:
    """Gamma distributed tissue with a quarter of zeros around it."""
    random = np.random.default_rng(seed)
    values = random.gamma(4.0, 60.0, shape) * (random.random(shape) > 0.25)
    return MetaTensor(
        torch.from_numpy(values.astype(np.float32)), affine=AFFINE, meta={"filename_or_obj": "a"}
    )


def standardized(values, method, parameters=None, **options) -> torch.Tensor:
    transform = StandardizeIntensityd("image", method, parameters=parameters, **options)
    return transform({"image": values})["image"]


@pytest.mark.parametrize("shape", [(1, 17, 13), (2, 9, 8, 7)])
@pytest.mark.parametrize("nonzero", [False, True])
def test_zscore_is_monais(shape, nonzero):
    values = image(*shape)
    expected = NormalizeIntensity(nonzero=nonzero, channel_wise=True)(values.clone())
    parameters = {"region": "nonzero", "outside": 0.0} if nonzero else {}
    found = standardized(values, "zscore", parameters)
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), atol=2e-6, rtol=1e-5)


def test_without_an_outside_value_the_background_is_mapped_like_the_rest():
    values = image(1, 17, 13)
    tissue = values[values > 0].numpy()
    found = standardized(values, "zscore", {"region": "nonzero"})
    np.testing.assert_allclose(
        found.numpy(), (values.numpy() - tissue.mean()) / tissue.std(), atol=1e-5
    )


@pytest.mark.parametrize(
    ("region", "chosen"),
    [("above_mean", lambda v: v[v > v.mean()]), ("mask", lambda v: v[:, :4])],
)
def test_zscore_of_a_region(region, chosen):
    values = image(1, 10, 9, 8)
    mask = torch.zeros(1, 10, 9, 8, dtype=torch.uint8)
    mask[:, :4] = 3
    transform = StandardizeIntensityd(
        "image", parameters={"region": region}, mask_key="mask" if region == "mask" else None
    )
    found = chosen(transform({"image": values, "mask": mask})["image"].as_tensor())
    inside = chosen(values.numpy())
    if region == "above_mean":
        found = torch.from_numpy((inside - inside.mean()) / inside.std())
        whole = transform({"image": values, "mask": mask})["image"].as_tensor()
        torch.testing.assert_close(whole[values.as_tensor() > values.mean().item()], found)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std(unbiased=False) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("clip", [True, False])
def test_percentile_is_numpys(clip):
    values = image(2, 9, 8, 7)
    found = standardized(
        values, "percentile", {"lower": 5, "upper": 90, "output_range": [-1, 2], "clip": clip}
    )
    for channel, part in zip(found.numpy(), values.numpy(), strict=True):
        low, high = np.percentile(part, [5, 90])
        expected = (part - low) / (high - low) * 3 - 1
        expected = np.clip(expected, -1, 2) if clip else expected
        np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_window_is_monais_scale_intensity_range():
    values = image(1, 9, 8, 7)
    expected = ScaleIntensityRange(100, 400, -1, 1, clip=True)(values)
    found = standardized(values, "window", {"lower": 100, "upper": 400})
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor())


@pytest.mark.parametrize("method", ["zscore", "percentile", "window", "foreground", "nyul"])
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float64])
def test_metadata_stays_and_float32_comes_out(method, dtype):
    parameters = {
        "window": {"lower": 0, "upper": 100},
        "foreground": {"lower": 0, "upper": 100, "mean": 50, "std": 20},
        "nyul": {"percents": [1, 50, 99], "landmarks": [0, 40, 100]},
    }.get(method)
    values = image(1, 8, 7, 6).clamp(max=250).to(dtype)
    before = values.clone()
    transform = StandardizeIntensityd("image", method, parameters=parameters)
    found = transform({"image": values, "other": 1})["image"]
    assert isinstance(found, MetaTensor)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert found.meta["filename_or_obj"] == "a"
    assert torch.equal(values, before)
    again = pickle.loads(pickle.dumps(transform))({"image": values})["image"]
    assert torch.equal(again, found)
    alone = transform({"image": values.numpy()})["image"]
    assert torch.equal(torch.as_tensor(np.asarray(alone)), found.as_tensor())


# Landmarks of Nyúl and Udupa.


def scanner(values: np.ndarray, knots: list[float], targets: list[float]) -> np.ndarray:
    """What another scanner makes of the same tissue: a line bent at the knots."""
    return np.interp(values, knots, targets)


@pytest.mark.parametrize("shape", [(1, 120, 110, 1), (1, 24, 22, 20)])
def test_nyul_undoes_a_piecewise_linear_distortion_to_one_percent(shape, tmp_path):
    values = image(*shape).numpy()
    tissue = values[values > 0]
    # Bent at deciles, where the landmarks are; the ends lie beyond the outer landmarks.
    knots = [0.0, *np.percentile(tissue, [20, 50, 80]), float(tissue.max())]
    distorted = [
        scanner(values, knots, targets)
        for targets in ([0, 30, 300, 350, 900], [0, 500, 520, 1800, 2000], [0, 1, 2, 3, 4])
    ]
    paths = []
    for index, array in enumerate([values, *distorted]):
        paths.append(tmp_path / f"case{index}.nii.gz")
        tensor = MetaTensor(torch.from_numpy(array).float(), affine=AFFINE)
        write_image(as_image(tensor), paths[-1])
    fitted = fit_standardization(paths, method="nyul")
    same = [fitted.apply(torch.from_numpy(v).float()).numpy() for v in [values, *distorted]]
    low, high = np.percentile(same[0][values > 0], [1, 99])
    assert (low, high) == pytest.approx((0, 100), abs=1e-3)
    inside = (values > np.percentile(tissue, 1)) & (values < np.percentile(tissue, 99))
    for other in same[1:]:
        assert np.abs(other - same[0])[inside].max() < 0.01 * (high - low)
    # Without it they are far apart.
    assert np.abs(distorted[0] - values)[inside].max() > 0.1 * (high - low)


@settings(max_examples=100, deadline=None)
@given(
    source=st.lists(st.floats(-3000, 3000, width=32), min_size=3, max_size=8),
    gaps=st.lists(st.floats(0.01, 50), min_size=8, max_size=8),
    values=st.lists(st.floats(-5000, 5000, width=32), min_size=2, max_size=60),
)
def test_nyul_never_changes_the_order_of_intensities(source, gaps, values):
    source = sorted(source)
    if source[-1] - source[0] < 1:
        return
    target = np.cumsum(gaps)[: len(source)].tolist()
    ordered = torch.tensor(sorted([*values, *source]), dtype=torch.float32)
    mapped = landmark_map(source, target)(ordered)
    assert torch.isfinite(mapped).all()
    assert (mapped.diff() >= 0).all()
    apart = torch.arange(source[0] - 100, source[-1] + 100, 50.0)
    assert (landmark_map([source[0], source[-1]], [0, 100])(apart).diff() > 0).all()


def test_beyond_the_outer_landmarks_the_outer_lines_go_on():
    values = torch.tensor([-10.0, 0, 5, 10, 15, 20, 40])
    found = landmark_map([0, 10, 20], [0, 50, 60])(values)
    torch.testing.assert_close(found, torch.tensor([-50.0, 0, 25, 50, 55, 60, 80]))


class NoDoubles(TorchDispatchMode):
    """Refuses 64-bit floats anywhere but on the CPU, as MPS does."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            assert result.device.type == "cpu", function
        return result


@pytest.mark.parametrize("method", ["landmarks", "wide window"])
def test_a_device_without_doubles_is_enough(method):
    mapped = landmark_map([0, 10, 20], [0, 50, 60])
    if method == "wide window":  # whose products come near the ends of single precision
        with pytest.raises(StopIteration) as done:
            next(Window(0.0, 1e35).fit())
        mapped = done.value.value
    with FakeTensorMode(), NoDoubles():
        found = mapped(torch.zeros(1, 6, 5, device="meta"))
    assert (found.device.type, found.dtype, found.shape) == ("meta", torch.float32, (1, 6, 5))


def test_landmarks_that_coincide_become_one():
    found = landmark_map([0, 0, 0, 10, 20], [0, 10, 20, 50, 60])(torch.tensor([0.0, 10, 20]))
    torch.testing.assert_close(found, torch.tensor([10.0, 50, 60]))
    with pytest.raises(InputError, match="coincide in every image"):
        mean_landmarks([[0, 0, 1], [0, 0, 5]])


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("zscore", {}),
        ("percentile", {}),
        ("nyul", {"percents": [1, 50, 99], "landmarks": [0, 40, 100]}),
    ],
)
def test_constant_empty_and_damaged_images_are_refused_by_name(method, parameters):
    constant = MetaTensor(torch.full((1, 5, 5, 5), 0.1), meta={"filename_or_obj": "b.nii"})
    with pytest.raises(InputError, match=r"'image' \(b.nii\): the image is constant \(0.1\)"):
        standardized(constant, method, parameters)
    with pytest.raises(InputError, match="no voxel lies in the region"):
        standardized(torch.zeros(1, 5, 5), method, {**parameters, "region": "nonzero"})
    damaged = torch.arange(25.0).reshape(1, 5, 5)
    damaged[0, 0, 1] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        standardized(damaged, method, parameters)


# The training set as a whole.


def training_set(folder, count: int = 4, integers: bool = True):
    """CT-like cases on two grids with labels 0 to 2; all foreground values."""
    random = np.random.default_rng(1)
    images, labels, foreground = [], [], []
    for index in range(count):
        shape = (14, 12, 10 + index)
        values = random.normal(60 + 20 * index, 40, shape).astype(np.float32)
        values = np.rint(values) if integers else values
        classes = random.integers(0, 3, shape).astype(np.float32)
        for kind, array, paths in (("i", values, images), ("l", classes, labels)):
            paths.append(folder / kind / f"case{index}.nii.gz")
            paths[-1].parent.mkdir(exist_ok=True, parents=True)
            tensor = MetaTensor(torch.from_numpy(array)[None], affine=AFFINE)
            write_image(as_image(tensor), paths[-1])
        foreground.append(values[classes > 0])
    return images, labels, np.concatenate(foreground)


@pytest.mark.parametrize("integers", [True, False])
def test_foreground_statistics_are_those_of_all_labelled_voxels(tmp_path, integers):
    images, labels, foreground = training_set(tmp_path, integers=integers)
    calls: list[tuple[int, int]] = []
    fitted = fit_standardization(
        images,
        method="foreground",
        labels=labels,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    (found,) = fitted.channels
    lower, upper = np.percentile(foreground.astype(np.float64), [0.5, 99.5])
    expected = (lower, upper, foreground.mean(dtype=float), foreground.std(dtype=float))
    assert (found.lower, found.upper, found.mean, found.std) == pytest.approx(expected, rel=1e-6)
    values = image(1, 9, 8, 7)
    result = fitted.apply(values.as_tensor())
    np.testing.assert_allclose(
        result, (np.clip(values.numpy(), lower, upper) - expected[2]) / expected[3], atol=1e-4
    )


def test_percentiles_of_very_many_distinct_values_are_close_in_bounded_memory():
    random = np.random.default_rng(2)
    parts = [random.lognormal(5, 1, 600_000).astype(np.float32) for _ in range(4)]
    summary = IntensitySummary()
    for part in parts:
        summary.add(part)
    assert len(summary._values) <= 2**20
    everything = np.concatenate(parts).astype(np.float64)
    for percent in (0.5, 50, 99.5):
        found = summary.percentile(percent)
        assert np.mean(everything <= found) == pytest.approx(percent / 100, abs=5e-6)
    assert summary.mean == pytest.approx(everything.mean(), rel=1e-9)
    assert summary.std == pytest.approx(everything.std(), rel=1e-9)


def test_channels_are_fitted_and_applied_each_on_its_own(tmp_path):
    two = image(2, 12, 11, 10)
    two[1] *= 7
    channels = [standardized(two[i : i + 1], "percentile") for i in range(2)]
    found = standardized(two, "percentile")
    torch.testing.assert_close(found.as_tensor(), torch.cat(channels).as_tensor())
    parameters = [{"lower": 0, "upper": 100}, {"lower": 0, "upper": 700}]
    scaled = standardized(two, "window", parameters).as_tensor()
    torch.testing.assert_close(scaled[1], standardized(two[1:] / 7, "window", parameters[0])[0])
    with pytest.raises(InputError, match="has 3 channels, but the standardisation is for 2"):
        standardized(image(3, 5, 5), "window", parameters)


# Files, bundles and mistakes.


def test_what_is_written_is_read_again(tmp_path):
    images, labels, _ = training_set(tmp_path)
    for fitted in (
        fit_standardization(images, method="foreground", labels=labels),
        fit_standardization(images, method="nyul", region="above_mean"),
    ):
        write_standardization(fitted, tmp_path / "configs" / "s.json")
        again = read_standardization(tmp_path / "configs" / "s.json")
        assert again == fitted
        assert again.provenance["images"] == 4
        values = image(1, 9, 8, 7)
        found = standardized(values, fitted.method, "configs/s.json", folder=str(tmp_path))
        assert torch.equal(found.as_tensor(), fitted.apply(values.as_tensor()))


def test_a_bundle_in_any_folder_finds_its_file_without_executing_code(tmp_path, tiny_bundle):
    fitted = standardization("nyul", {"percents": [1, 50, 99], "landmarks": [0, 40, 100]})
    path = tiny_bundle / "configs" / "standardization.json"
    write_standardization(fitted, path)
    config = tiny_bundle / "configs" / "inference.yaml"
    content = yaml.safe_load(config.read_text())
    content["preprocessing"] = {
        "_target_": "monai.transforms.Compose",
        "transforms": [
            {
                "_target_": "volseg.transforms.StandardizeIntensityd",
                "keys": "image",
                "method": "nyul",
                "parameters": "configs/standardization.json",
                "folder": "@bundle_root",
            }
        ],
    }
    config.write_text(yaml.safe_dump(content))
    moved = tmp_path / "elsewhere" / "bundle"
    shutil.copytree(tiny_bundle, moved)
    shutil.rmtree(tiny_bundle)
    parts = build_parts(open_bundle(moved))
    values = image(1, 9, 8, 7)
    found = parts.preprocessing({"image": values})["image"]
    assert torch.equal(found.as_tensor(), fitted.apply(values.as_tensor()))


def test_plain_values_can_be_written_in_yaml():
    text = """
    pre:
      _target_: volseg.transforms.StandardizeIntensityd
      keys: [image]
      method: window
      parameters: {lower: -160, upper: 240, output_range: [0, 1]}
    """
    transform = ConfigParser(yaml.safe_load(text)).get_parsed_content("pre")
    found = Compose([transform])({"image": torch.tensor([[[-500.0, 40], [240, 900]]])})["image"]
    assert found.flatten().tolist() == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a standardisation"),
        ('{"format": "x"}', "is not a standardisation"),
        ({"method": "nyul"}, "'channels' must be a list"),
        ({"method": "nyul", "channels": []}, "empty list"),
        ({"method": "nuyl", "channels": [{}]}, "did you mean 'nyul'"),
        ({"method": "window", "channels": [{"lower": 0}]}, "upper"),
        ({"method": "window", "channels": [{"lower": 0, "uper": 1}]}, "did you mean 'upper'"),
        ({"method": "window", "channels": [{"lower": "a", "upper": 1}]}, "right types"),
        ({"method": "window", "channels": [3]}, "names = values"),
        ({"method": "nyul", "channels": [{"percents": [1, 2], "landmarks": [1, 1]}]}, "ascending"),
        (
            {"method": "foreground", "channels": [{"lower": 0, "upper": 1, "mean": 0, "std": 0}]},
            "std above 0",
        ),
    ],
)
def test_wrong_files_are_refused_with_their_path(tmp_path, text, message):
    path = tmp_path / "s.json"
    if isinstance(text, dict):
        text = json.dumps({"format": "volseg standardization 1", **text})
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_standardization(path)
    assert str(path) in str(error.value)


def test_mistakes_are_said(tmp_path):
    with pytest.raises(InputError, match="there is no standardisation"):
        read_standardization(tmp_path / "none.json")
    with pytest.raises(UnknownNameError, match="did you mean 'zscore'"):
        StandardizeIntensityd("image", "zscor")
    with pytest.raises(UnknownNameError, match="region"):
        StandardizeIntensityd("image", parameters={"region": "foregrund"})
    with pytest.raises(InputError, match="name its key"):
        standardized(image(1, 5, 5), "zscore", {"region": "mask"})
    with pytest.raises(ShapeError, match="channels, x, y"):
        standardized(torch.zeros(5, 5), "zscore")
    write_standardization(standardization("window", {"lower": 0, "upper": 1}), tmp_path / "w.json")
    with pytest.raises(InputError, match="by 'window', but the method is 'nyul'"):
        StandardizeIntensityd("image", "nyul", parameters=tmp_path / "w.json")
    images, labels, _ = training_set(tmp_path, 1)
    for options, message in (
        ({"method": "zscore"}, "unknown fitted standardisation"),
        ({"method": "nyul", "labels": labels}, "images alone"),
        ({"method": "nyul", "region": "mask"}, "new images have none"),
        ({"method": "foreground"}, "one label map for each"),
    ):
        with pytest.raises(InputError, match=message):
            fit_standardization(images, **options)
    with pytest.raises(InputError, match="at least one image"):
        fit_standardization([], method="nyul")
    zero = MetaTensor(torch.zeros(1, 14, 12, 10), affine=AFFINE)
    write_image(as_image(zero), tmp_path / "zero.nii.gz")
    with pytest.raises(InputError, match="hold no foreground"):
        fit_standardization(images, method="foreground", labels=[tmp_path / "zero.nii.gz"])
    with pytest.raises(InputError, match="zero.nii.gz: no voxel lies in the region"):
        fit_standardization([*images, tmp_path / "zero.nii.gz"], method="nyul")


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(2, 9), min_size=2, max_size=3),
    channels=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "int16", "int32", "float32", "float64"]),
    spacing=st.floats(0.05, 20),
    method=st.sampled_from(["zscore", "percentile", "window", "foreground", "nyul"]),
    seed=st.integers(0, 2**16),
)
def test_any_shape_type_and_spacing(shape, channels, dtype, spacing, method, seed):
    """Order and place of the values are kept whatever the image is."""
    options = {
        "window": {"lower": 20, "upper": 90},
        "foreground": {"lower": 10, "upper": 110, "mean": 60, "std": 20},
        "nyul": {"percents": [5, 50, 95], "landmarks": [0, 50, 100], "region": "whole"},
    }
    random = np.random.default_rng(seed)
    values = random.integers(1, 120, (channels, *shape)).astype(dtype)
    values.reshape(channels, -1)[:, :2] = [1, 119]  # no channel is constant
    affine = np.diag([spacing] * len(shape) + [1.0])
    given_image = MetaTensor(torch.from_numpy(values), affine=affine)
    transform = StandardizeIntensityd("image", method, parameters=options.get(method))
    found = transform({"image": given_image})["image"]
    assert found.dtype == torch.float32
    assert found.shape == given_image.shape
    assert torch.isfinite(found).all()
    assert torch.equal(found.affine, given_image.affine)
    assert torch.equal(given_image.as_tensor(), torch.from_numpy(values))
    for before, after in zip(values, found.numpy(), strict=True):
        order = np.argsort(before, axis=None)
        assert (np.diff(after.ravel()[order]) >= -1e-5).all()
