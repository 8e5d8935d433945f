"""Label maps as masks of structures, for metrics."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks import one_hot

from volseg.transforms import StructureMasksd, structure_masks


def test_masks_of_classes_are_monais_one_hot():
    labels = torch.randint(0, 4, (1, 5, 6, 7), generator=torch.Generator().manual_seed(0))
    expected = one_hot(labels[None], 4)[0]
    assert torch.equal(structure_masks(labels, [[1], [2], [3]]), expected.to(torch.uint8))


def test_masks_of_regions_hold_all_their_values_and_the_background_is_first():
    labels = torch.tensor([[[0.0, 1.0, 2.0, 3.0, 9.0]]])
    found = structure_masks(labels, [[1, 2, 3], [2, 3], [3]])
    assert found[:, 0].tolist() == [
        [1, 0, 0, 0, 1],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 0],
    ]


def test_what_is_ignored_in_the_reference_is_in_no_mask_of_either():
    reference = MetaTensor(torch.tensor([[[0, 1, 255, 2, 255]]]), affine=torch.eye(4) * 2)
    prediction = MetaTensor(torch.tensor([[[0, 1, 1, 1, 0]]]))
    masks = StructureMasksd(["pred", "label"], reference="label", classes=3, ignore=255)
    found = masks({"pred": prediction, "label": reference})
    assert found["pred"][:, 0].tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert found["label"][:, 0].tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert np.array_equal(found["label"].affine, reference.affine)
