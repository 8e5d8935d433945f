"""A label from another grid, or with other values than the classes, never trains."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader

from volseg.choosing import measure_bundle
from volseg.errors import GeometryError, InputError
from volseg.io import CheckLabelsd, ReadImaged, as_image
from volseg.training import train_bundle


def replace_label(data, change):
    path = data / "labels" / "ball1.nii.gz"
    stored = nib.load(path)
    values, affine = change(np.asarray(stored.dataobj).copy(), stored.affine.copy())
    nib.save(nib.Nifti1Image(values, affine), path)


def shifted(values, affine):
    affine[0, 3] += 15
    return values, affine


def mirrored(values, affine):
    return values, affine @ np.diag([-1.0, 1, 1, 1])


def third_class(values, affine):
    values[0, 0, 0] = 3
    return values, affine


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (shifted, GeometryError, "ball1.*same grid.*15 mm apart"),
        (mirrored, GeometryError, "ball1.*same grid"),
        (third_class, InputError, r"ball1.nii.gz holds 3; expected whole numbers from 0 to 2"),
    ],
)
def test_training_refuses_it_and_names_the_file(tiny_bundle, tmp_path, change, error, sentence):
    data = tiny_bundle.parent / "data"
    replace_label(data, change)
    with pytest.raises(error, match=sentence):
        train_bundle(tiny_bundle, data, tmp_path / "trained", epochs=1)


def test_measuring_refuses_a_label_on_another_grid(tiny_bundle):
    data = tiny_bundle.parent / "data"
    replace_label(data, shifted)
    with pytest.raises(GeometryError, match="ball1.*same grid"):
        measure_bundle(tiny_bundle, data, fold=1)


def test_labels_of_several_types_make_a_batch(tiny_bundle):
    """Half of a public data set is float32, half uint8: a batch of both could not be made."""
    label, image = (
        tiny_bundle.parent / "data" / kind / "ball1.nii.gz" for kind in ("labels", "images")
    )
    stored = nib.load(label)
    values, found = np.asarray(stored.dataobj).copy(), []
    for kind in (np.uint8, np.int16, np.float32):
        nib.save(nib.Nifti1Image(values.astype(kind), stored.affine), label)
        case = ReadImaged(["image", "label"])({"image": str(image), "label": str(label)})
        found.append(CheckLabelsd("label", like="image", classes=3)(case)["label"])
    assert [one.dtype for one in found] == [torch.uint8] * 3
    assert all(torch.equal(one, found[0]) for one in found)
    assert np.array_equal(found[0].numpy()[0], values)


@pytest.mark.parametrize(("classes", "ignore", "value"), [(301, None, 300), (2, 256, 256)])
def test_large_values_pass_a_batch_whose_first_case_has_none(classes, ignore, value):
    """A batch takes the type of its first case where a worker makes it: 300 became 44."""
    check = CheckLabelsd("label", like="image", classes=classes, ignore=ignore)
    cases = []
    for largest in (1, value):
        image = as_image(np.full((4, 4), largest, np.float32), np.eye(3))
        cases.append(check({"image": image, "label": image})["label"].as_tensor())
    [batch] = DataLoader(cases, batch_size=2, num_workers=1)
    assert int(batch[1].max()) == value
