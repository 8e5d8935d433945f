"""Volumes prepared part by part are, bit for bit, what transforms give in memory."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, NormalizeIntensityd

from volseg.errors import Cancelled, InputError
from volseg.inference import Preparation, prepare_volume
from volseg.io import ReadImaged, grid_of, open_volume
from volseg.transforms import Regridd, StandardizeIntensityd

# Axes in another order and direction than RAS, anisotropic.
AFFINE = np.array([[0, 0, 2.5, 3], [-0.8, 0, 0, 40], [0, 1.1, 0, -7], [0, 0, 0, 1.0]])
SHAPE = (22, 19, 13)


def image_file(folder, name, *, channels=1, dtype=np.int16):
    generator = np.random.default_rng(3)
    values = generator.normal(300, 200, (*SHAPE, channels)).clip(0, 4000).astype(dtype)
    values[:6] = 0
    image = nib.Nifti1Image(values[..., 0] if channels == 1 else values, AFFINE)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, folder / name)
    return folder / name


def transforms(*, spacing=(1.3, 1.0, 1.9), method="zscore", parameters=None):
    return Compose(
        [
            ReadImaged("image", dtype="float32"),
            Regridd("image", orientation="RAS", spacing=spacing),
            StandardizeIntensityd("image", method, parameters=parameters),
        ]
    )


def found_in_parts(path, steps, axis, voxels):
    preparation = Preparation.of(steps)
    assert preparation is not None
    volume = open_volume(path)
    with volume, prepare_volume(volume, preparation, axis=axis, block_voxels=voxels) as prepared:
        side = prepared.shape[1 + axis]
        planes = [prepared.read(axis, at, min(at + 3, side)) for at in range(0, side, 3)]
        return torch.cat(planes, dim=1 + axis), prepared.grid


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [1, 1000, 1 << 22])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_are_those_of_the_transforms(axis, voxels, name, tmp_path):
    path = image_file(tmp_path, name)
    expected = transforms()({"image": path})["image"]
    found, grid = found_in_parts(path, transforms(), axis, voxels)
    assert np.array_equal(found.numpy(), expected.numpy())
    assert grid == grid_of(expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("zscore", {"region": "nonzero", "outside": 0.0}),
        ("zscore", {"region": "above_mean"}),
        ("percentile", None),
        ("window", {"lower": 0, "upper": 200}),
    ],
)
def test_every_standardisation_of_every_channel(channels, method, parameters, tmp_path):
    path = image_file(tmp_path, "a.nii", channels=channels)
    steps = transforms(method=method, parameters=parameters)
    expected = steps({"image": path})["image"].numpy()
    found, _ = found_in_parts(path, steps, 1, 900)
    assert np.array_equal(found.numpy(), expected)


def test_files_on_the_networks_grid_and_arrays_in_memory(tmp_path):
    path = image_file(tmp_path, "a.nii")
    reading = Compose([ReadImaged("image", dtype="float32")])
    expected = reading({"image": path})["image"]
    for image in (path, expected):
        found, grid = found_in_parts(image, reading, 0, 500)
        assert np.array_equal(found.numpy(), expected.numpy())
        assert grid == grid_of(expected)


def test_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 1), np.uint8)
    from PIL import Image

    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    steps = Compose([ReadImaged("image", dtype="float32"), StandardizeIntensityd("image")])
    expected = steps({"image": tmp_path / "a.png"})["image"].numpy()
    found, _ = found_in_parts(tmp_path / "a.png", steps, 0, 64)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [ReadImaged("image")],
        [ReadImaged("image", dtype="float32"), NormalizeIntensityd("image")],
        [ReadImaged("image", dtype="float32"), Regridd("image", spacing=[1] * 3, mode="nearest")],
        [ReadImaged("image", dtype="float32"), StandardizeIntensityd("image", mask_key="mask")],
        [ReadImaged("image", dtype="float32"), StandardizeIntensityd("other")],
        [ReadImaged(["image", "label"], dtype="float32")],
    ],
)
def test_what_cannot_be_done_in_parts_is_not_guessed(steps):
    assert Preparation.of(Compose(steps)) is None


def test_an_image_that_cannot_be_standardised_is_named(tmp_path):
    path = tmp_path / "empty.nii"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([1, 1, 1, 1.0])), path)
    with pytest.raises(InputError, match=r"empty\.nii.*constant"):
        found_in_parts(path, transforms(), 0, 1000)


def test_cancelling_stops_between_parts(tmp_path):
    path, asked = image_file(tmp_path, "a.nii"), []

    def cancelled():
        asked.append(1)
        return len(asked) == 3

    preparation = Preparation.of(transforms())
    with open_volume(path) as volume, pytest.raises(Cancelled):
        prepare_volume(volume, preparation, axis=0, block_voxels=1, cancelled=cancelled)
    assert len(asked) == 3
