"""An image and its label map in step, whatever the formats."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.io import (
    as_image,
    label_blocks,
    labelled_blocks,
    open_volume,
    read_image,
    write_image,
    write_segmentation,
)

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    image = as_image(random.normal(size=(2, 6, 7, 5)).astype(np.float32), AFFINE)
    labels = random.integers(0, 4, (6, 7, 5)).astype(np.uint8)
    found = {}
    for suffix in (".nii.gz", ".nrrd"):
        write_image(image, tmp_path / f"image{suffix}")
        write_segmentation(labels, tmp_path / f"labels{suffix}", like=image)
        found |= {name + suffix: tmp_path / (name + suffix) for name in ("image", "labels")}
    return found


@pytest.mark.parametrize("voxels", [1, 100, 10**6])
@pytest.mark.parametrize("image_suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("label_suffix", [".nii.gz", ".nrrd"])
def test_every_voxel_comes_once_with_its_label(files, image_suffix, label_suffix, voxels):
    image, labels = files["image" + image_suffix], files["labels" + label_suffix]
    expected = read_image(image).numpy(), read_image(labels).numpy()[0]
    found = np.full((2, 6, 7, 5), np.nan, np.float32)
    seen = np.zeros((2, 6, 7, 5), int)
    with open_volume(image) as opened, open_volume(labels) as label_map:
        for block, part in labelled_blocks(opened, label_map, voxels):
            assert part.dtype == np.uint16
            found[block.place] = block.values
            seen[block.place] += 1
            np.testing.assert_array_equal(part, expected[1][block.place[1:]])
    np.testing.assert_array_equal(found, expected[0])
    assert (seen == 1).all()


def test_flat_volumes_of_different_formats_go_together():
    image = as_image(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1), AFFINE)
    with open_volume(image) as opened, open_volume(image.clone()) as label_map:
        [(block, part)] = labelled_blocks(opened, label_map)
    np.testing.assert_array_equal(part, block.values[0])


@pytest.mark.parametrize("voxels", [1, 100, 10**6])
def test_colours_go_with_their_labels(files, tmp_path, voxels):
    colours = np.random.default_rng(0).integers(0, 255, (6, 7, 5, 3)).astype(np.uint8)
    stored = colours.view([(name, "u1") for name in "RGB"])[..., 0]
    nib.Nifti1Image(stored, AFFINE).to_filename(tmp_path / "rgb.nii")
    expected = read_image(files["labels.nii.gz"]).numpy()[0]
    seen = np.zeros((3, 6, 7, 5), int)
    with open_volume(tmp_path / "rgb.nii") as image, open_volume(files["labels.nii.gz"]) as labels:
        for block, part in labelled_blocks(image, labels, voxels):
            np.testing.assert_array_equal(block.values, colours.transpose(3, 0, 1, 2)[block.place])
            np.testing.assert_array_equal(part, expected[block.place[1:]])
            seen[block.place] += 1
    assert (seen == 1).all()


def test_what_does_not_go_together_is_refused(files, tmp_path):
    moved = as_image(np.zeros((1, 6, 7, 5), np.uint8), np.diag([-1.0, 2.0, 3.5, 1.0]))
    fractions = as_image(np.full((1, 6, 7, 5), 0.5, np.float32), AFFINE)
    with open_volume(files["image.nii.gz"]) as image:
        with open_volume(moved) as labels, pytest.raises(GeometryError, match=r"image\.nii\.gz"):
            next(labelled_blocks(image, labels))
        with open_volume(fractions) as labels, pytest.raises(InputError, match="whole numbers"):
            next(labelled_blocks(image, labels))
        with pytest.raises(ShapeError, match="has 2 channels, expected one"):
            next(label_blocks(image))
