"""The weight map as a transform is the function, in voxels or by the affine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.errors import InputError
from volseg.losses import border_weight_map
from volseg.transforms import BorderWeightMapd

AFFINE = np.diag([1.0, 0.5, 3.0, 1.0])


def instances() -> MetaTensor:
    labels = torch.zeros(1, 12, 20, 8, dtype=torch.int64)
    labels[0, 2:10, 2:8, 2:6] = 2**25 + 1  # a neighbour that 32-bit floats cannot tell apart
    labels[0, 2:10, 11:18, 2:6] = 2**25
    return MetaTensor(labels, affine=AFFINE, meta={"filename_or_obj": "a"})


@pytest.mark.parametrize(("unit", "spacing"), [("voxels", None), ("mm", (1.0, 0.5, 3.0))])
def test_is_the_function_beside_the_instances(unit, spacing):
    data = {"label": instances()}
    result = BorderWeightMapd("label", unit=unit, sigma=3.0)(data)
    expected = border_weight_map(data["label"].numpy()[0], sigma=3.0, spacing=spacing)
    np.testing.assert_array_equal(result["label_weights"].numpy()[0], expected)
    assert expected.max() > expected.min() + 1
    assert result["label_weights"].dtype == torch.float32
    np.testing.assert_array_equal(result["label_weights"].affine, AFFINE)
    assert torch.equal(result["label"], data["label"])
    assert set(data) == {"label"}


def test_mistakes_are_said():
    with pytest.raises(InputError, match="expected 'voxels' or 'mm'"):
        BorderWeightMapd("label", unit="cm")
    with pytest.raises(InputError, match="no affine"):
        BorderWeightMapd("label", unit="mm")({"label": instances().as_tensor()})
    with pytest.raises(InputError, match="expected one of instances"):
        BorderWeightMapd("label")({"label": torch.zeros(2, 5, 5)})
