"""N4 at a shrink factor against a known field and against SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from volseg.errors import InputError
from volseg.transforms import CorrectBiasFieldd, bias_field

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def phantom(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tissues in an ellipsoid on a dark ground, the field over it, and where tissue is."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    tissue = np.where(radius < 0.45, 180.0, np.where(radius < 0.85, 100.0, 0.0))
    noise = np.random.default_rng(0).normal(0, 1.5, shape)
    # In a picture N4 has too little to tell a strong field from the contrast of two tissues.
    strength = 1.0 if len(shape) == 3 else 0.4
    field = np.exp(strength * (0.5 * grid[0] - 0.35 * grid[1] + 0.3 * grid[-1] ** 2))
    return np.abs(tissue + noise).astype(np.float32), field.astype(np.float32), radius < 0.85


def spread(values: np.ndarray, tissue: np.ndarray, clean: np.ndarray) -> float:
    """Deviation of each voxel's brightness from that of its tissue, relative."""
    ratio = (values / clean)[tissue]
    return float(ratio.std() / ratio.mean())


@pytest.mark.parametrize("shape", [(72, 64), (36, 32, 28)])
def test_a_known_field_is_reduced_at_full_resolution(shape):
    clean, field, tissue = phantom(*shape)
    biased = MetaTensor(
        torch.from_numpy(clean * field)[None],
        affine=AFFINE if len(shape) == 3 else np.diag([1.0, 1.5, 1.0]),
        meta={"filename_or_obj": "a"},
    )
    transform = CorrectBiasFieldd("image", shrink_factor=2, mask_key="mask")
    found = transform({"image": biased, "mask": torch.from_numpy(tissue)[None]})["image"]
    assert found.shape == biased.shape
    before = spread(biased.numpy()[0], tissue, clean)
    assert before > 0.1
    assert spread(found.numpy()[0], tissue, clean) < 0.3 * before
    assert isinstance(found, MetaTensor)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.affine, biased.affine)
    assert found.meta["filename_or_obj"] == "a"


def test_without_shrinking_it_is_simpleitks_filter():
    clean, field, tissue = phantom(24, 22, 20)
    biased = clean * field
    whole, mask = (
        sitk.GetImageFromArray(np.transpose(array).copy())
        for array in (biased, (tissue & (biased > 0)).astype(np.uint8))
    )
    for item in (whole, mask):
        item.SetSpacing([1.0, 1.5, 2.0])
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([10, 10])
    expected = np.transpose(sitk.GetArrayFromImage(corrector.Execute(whole, mask)))
    field = bias_field(
        biased, mask=tissue, spacing=(1.0, 1.5, 2.0), shrink_factor=1, iterations=(10, 10)
    )
    np.testing.assert_allclose((biased / field)[tissue], expected[tissue], rtol=1e-3)


def test_mistakes_are_said():
    positive = np.ones((9, 9), np.float32)
    for image, options, message in (
        (positive, {"shrink_factor": 0}, "at least 1"),
        (positive, {"iterations": ()}, "at least 1"),
        (positive * np.nan, {}, "not finite"),
        (positive[:2], {}, "four voxels"),
        (-positive, {"mask": positive > 0}, "no voxel is positive"),
        (np.ones((64, 64), np.float32), {"mask": np.eye(64, k=61) > 0}, "use a smaller one"),
    ):
        with pytest.raises(InputError, match=message):
            bias_field(image, **options)
