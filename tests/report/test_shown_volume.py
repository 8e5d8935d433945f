"""What a page shows of a large volume: every so many voxels, each where it was."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest

from volseg.io import as_image, open_volume, write_image, write_segmentation
from volseg.report.shown_volume import as_base64, shown_volume

AFFINE = np.array([[0, -0.5, 0, 3], [0.6, 0, 0, 4], [0, 0, 3.0, -5], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_large_volume_is_thinned_out_evenly_in_mm(tmp_path, suffix):
    values = np.random.default_rng(0).normal(0, 50, (61, 50, 9)).astype(np.float32)
    values[4, 4, 4] = np.nan
    labels = (values > 20).astype(np.uint16) * 300
    image = as_image(values[np.newaxis], AFFINE)
    write_image(image, tmp_path / f"image{suffix}")
    write_segmentation(labels, tmp_path / f"labels{suffix}", like=image)
    with (
        open_volume(tmp_path / f"image{suffix}") as opened,
        open_volume(tmp_path / f"labels{suffix}") as label_map,
    ):
        shown = shown_volume(opened, label_map, (-100.0, 100.0), most_voxels=4000)
    assert shown.steps == (3, 3, 1)
    np.testing.assert_array_equal(shown.labels, labels[::3, ::3])
    expected = np.clip((np.nan_to_num(values[::3, ::3], nan=-100) + 100) * 1.275, 0, 255)
    np.testing.assert_allclose(shown.image, expected, atol=0.51)
    at = shown.grid.affine.apply([2, 3, 4])
    np.testing.assert_allclose(at, (AFFINE @ [6, 9, 4, 1])[:3])


def test_a_volume_becomes_a_nifti_in_the_page():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image = as_image(values[np.newaxis], AFFINE)
    with open_volume(image) as opened, open_volume(image) as label_map:
        shown = shown_volume(opened, label_map, (0, 23))
    text = as_base64(shown.labels, shown.grid)
    assert text == as_base64(shown.labels, shown.grid)
    found = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))
    np.testing.assert_array_equal(np.asarray(found.dataobj), values)
    np.testing.assert_allclose(found.affine, AFFINE)
