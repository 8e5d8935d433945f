"""Small data sets whose properties are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from volseg.io import as_image, write_image, write_segmentation


def write_case(
    folder: Path,
    name: str,
    *,
    shape=(24, 20, 16),
    spacing=(1.0, 1.0, 2.0),
    labels=None,
    values=None,
    seed=0,
    flip=False,
) -> None:
    """Write image and label: two boxes of classes 1 and 2 in noise, axes RAS unless flipped."""
    if labels is None:
        labels = np.zeros(shape, np.uint8)
        labels[4:10, 4:10, 4:10] = 1
        labels[14:18, 4:8, 4:8] = 2
    if values is None:
        noise = np.random.default_rng(seed).normal(100, 5, labels.shape)
        values = (noise + 50 * labels).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    if flip:
        affine[0, 0] *= -1
    image = as_image(values, affine)
    write_image(image, folder / "images" / f"{name}.nii.gz")
    write_segmentation(labels, folder / "labels" / f"{name}.nii.gz", like=image)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six sound cases of 24 x 20 x 16 voxels of 1 x 1 x 2 mm, classes 1 and 2."""
    folder = tmp_path / "data"
    for index in range(6):
        write_case(folder, f"case{index}", seed=index)
    return folder
