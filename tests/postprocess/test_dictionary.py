import pickle

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from volseg.errors import InputError, ShapeError
from volseg.metrics import label_statistics
from volseg.postprocess import (
    FillHolesd,
    KeepLargestd,
    RemoveSmallComponentsd,
    fill_holes,
    keep_largest,
    remove_small_components,
)

AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0, 2.5, -4], [0, 0.7, 0, 3], [0, 0, 0, 1.0]])
SPACING = (0.7, 0.7, 2.5)


def label_map(dtype=torch.uint8) -> MetaTensor:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (1, 12, 11, 10)))
    return MetaTensor(labels.to(dtype), affine=AFFINE, meta={"filename_or_obj": "case.nii.gz"})


CASES = [
    (FillHolesd("seg"), fill_holes, {}),
    (KeepLargestd("seg", count=2, connectivity=6), keep_largest, {"count": 2, "connectivity": 6}),
    (
        RemoveSmallComponentsd("seg", min_size_mm3=8.0, classes=[2], connectivity=6),
        remove_small_components,
        {"min_size_mm3": 8.0, "classes": [2], "connectivity": 6, "spacing": SPACING},
    ),
]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize(("transform", "function", "options"), CASES)
def test_is_the_function_and_keeps_the_tensor(transform, function, options, dtype):
    data = {"seg": label_map(dtype), "other": "x"}
    before = data["seg"].clone()
    result = transform(data)
    expected = function(before.numpy()[0].astype(np.uint8), **options)
    np.testing.assert_array_equal(result["seg"].numpy()[0], expected)
    assert (expected != before.numpy()[0]).any()
    assert isinstance(result["seg"], MetaTensor)
    assert result["seg"].dtype == dtype
    np.testing.assert_array_equal(result["seg"].affine, AFFINE)
    assert result["seg"].meta["filename_or_obj"] == "case.nii.gz"
    assert result["other"] == "x"
    assert torch.equal(data["seg"], before)
    pickle.dumps(transform)


@pytest.mark.parametrize("size", [3, 4])
def test_in_2d_the_affine_may_have_either_size(size):
    labels = torch.zeros((1, 6, 6), dtype=torch.uint8)
    labels[0, 0, 0] = labels[0, 3:5, 3:5] = 1
    affine = np.diag([0.5, 2.0, 1.0] if size == 3 else [0.5, 2.0, 9.0, 1.0])
    result = RemoveSmallComponentsd("seg", min_size_mm3=1.5)(
        {"seg": MetaTensor(labels, affine=affine)}
    )
    assert result["seg"].sum() == 4


def test_the_volume_of_tilted_voxels_is_that_of_statistics():
    """Of a gantry that is tilted by 25 degrees, axes are not at right angles."""
    steps = np.diag([0.8, 0.8, 2.5, 1.0])
    steps[1:3, 2] = 2.5 * np.sin(np.deg2rad(25)), 2.5 * np.cos(np.deg2rad(25))
    labels = torch.zeros((1, 6, 6, 6), dtype=torch.uint8)
    labels[0, :4, 0, 0] = 1  # four of 1.45 mm³, which at right angles would be 1.6 mm³
    data = {"seg": MetaTensor(labels, affine=steps)}
    volume = label_statistics(labels.numpy()[0], steps)[0].volume_mm3
    assert volume == pytest.approx(5.8, abs=0.01)
    for smallest, kept in ((volume, 4), (volume + 0.01, 0)):
        assert RemoveSmallComponentsd("seg", min_size_mm3=smallest)(data)["seg"].sum() == kept


def test_can_be_written_in_yaml():
    text = """
    post:
      _target_: monai.transforms.Compose
      transforms:
        - {_target_: volseg.postprocess.FillHolesd, keys: seg}
        - {_target_: volseg.postprocess.RemoveSmallComponentsd, keys: seg, min_size_mm3: 8}
        - {_target_: volseg.postprocess.KeepLargestd, keys: [seg], classes: [1], count: 1}
    """
    post = ConfigParser(yaml.safe_load(text)).get_parsed_content("post")
    data = {"seg": label_map()}
    labels = fill_holes(data["seg"].numpy()[0])
    labels = remove_small_components(labels, min_size_mm3=8, spacing=SPACING)
    np.testing.assert_array_equal(post(data)["seg"].numpy()[0], keep_largest(labels, classes=[1]))


def test_plain_tensors_need_sizes_in_voxels():
    data = {"seg": torch.ones((1, 3, 3), dtype=torch.uint8)}
    result = RemoveSmallComponentsd("seg", min_size_voxels=2)(data)
    assert torch.equal(result["seg"], data["seg"])
    with pytest.raises(InputError, match="'seg' has no affine"):
        RemoveSmallComponentsd("seg", min_size_mm3=2)(data)


def test_unusable_input_is_named():
    with pytest.raises(ShapeError, match=r"'seg' has the shape \(2, 3, 3\)"):
        FillHolesd("seg")({"seg": torch.ones((2, 3, 3))})
    with pytest.raises(InputError, match="not whole numbers"):
        FillHolesd("seg")({"seg": torch.full((1, 3, 3), 0.5)})
    with pytest.raises(InputError, match="exactly one"):
        RemoveSmallComponentsd("seg")
    assert FillHolesd("seg", allow_missing_keys=True)({"other": 1}) == {"other": 1}
