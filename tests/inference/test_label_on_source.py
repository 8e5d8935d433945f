"""Labels on the grid of the file, from logits on the network's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Invertd

from volseg.errors import InputError
from volseg.inference import LabelOnSourceGridd
from volseg.io import as_image, grid_of, original_grid_of
from volseg.transforms import Regridd

REGRIDDING = Regridd("image", orientation="RAS", spacing=[1.2, 1.2, 1.2])
# Turned and anisotropic: axes come in another order and direction than the network's.
AFFINE = np.array([[0, 0, 1.5, 3], [-0.8, 0, 0, 40], [0, 1.0, 0, -7], [0, 0, 0, 1.0]])


def case(classes: int) -> dict[str, MetaTensor]:
    """An image read, moved to the network's grid, and smooth logits there."""
    generator = torch.Generator().manual_seed(0)
    image = as_image(torch.rand((1, 20, 18, 12), generator=generator).numpy(), AFFINE)
    moved = REGRIDDING({"image": image})["image"]
    coarse = torch.randn((1, classes, 5, 5, 5), generator=generator)
    logits = torch.nn.functional.interpolate(coarse, moved.shape[1:], mode="trilinear")[0]
    return {"image": moved, "pred": MetaTensor(4 * logits).copy_meta_from(moved)}


def test_labels_are_those_of_inverting_probabilities_in_memory():
    data = case(3)
    found = LabelOnSourceGridd("pred", like="image")(data)["pred"]
    assert grid_of(found) == original_grid_of(data["image"])
    assert found.dtype == torch.uint8
    # MONAI's way: class probabilities on the source grid, then the largest.
    data["pred"] = MetaTensor(data["pred"].softmax(0)).copy_meta_from(data["pred"])
    inverted = Invertd("pred", REGRIDDING, orig_keys="image", nearest_interp=False)(data)
    expected = AsDiscreted("pred", argmax=True)(inverted)["pred"]
    assert expected.shape == found.shape
    different = (expected.numpy() != found.numpy()).sum()
    assert different <= 2  # ties in float32
    assert len(np.unique(found.numpy())) == 3


def test_regions_are_written_as_their_labels():
    data = case(2)
    found = LabelOnSourceGridd("pred", like="image", regions=[300, 7])(data)["pred"].numpy()
    assert found.dtype == np.uint16
    assert set(np.unique(found)) == {0, 7, 300}


def test_pictures_keep_their_pixels():
    image = as_image(np.zeros((1, 6, 5), np.float32), np.eye(3))
    logits = torch.zeros(2, 6, 5)
    logits[1, 2:4, 1] = 1
    data = {"image": image, "pred": MetaTensor(logits).copy_meta_from(image)}
    found = LabelOnSourceGridd("pred", like="image")(data)["pred"].numpy()
    assert np.array_equal(found, (logits[1:] > 0).numpy())


def test_logits_without_a_place_are_refused():
    data = case(2)
    data["pred"] = data["pred"].as_tensor()
    with pytest.raises(InputError, match="without an affine"):
        LabelOnSourceGridd("pred", like="image")(data)


def test_regions_are_written_as_nnunet_writes_them():
    """The digits are what LabelManager.convert_logits_to_segmentation of nnU-Net 2.8.1 gave.

    For the labels {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "active": [3]} and the
    regions_class_order [2, 1, 3].
    """
    expected = (
        "313233230031313313231111130001330222302332221312131133132303333031213322303302233003323231"
        "313131303123332112330311302333"
    )
    logits = np.random.default_rng(0).normal(0, 3, (3, 6, 5, 4)).astype(np.float32)
    image = as_image(np.zeros((6, 5, 4), np.float32), np.eye(4))
    pred = MetaTensor(torch.from_numpy(logits)).copy_meta_from(image)
    labelling = LabelOnSourceGridd("pred", like="image", regions=[2, 1, 3])
    found = labelling({"image": image, "pred": pred})["pred"]
    assert "".join(str(int(label)) for label in found.flatten()) == expected
