import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.transforms import RandSpatiald
from volseg.transforms.patch_position import ratios_of, voxel_of_a_class


def labelled(shape=(40, 30, 20)):
    """Background, a large class 1, and a class 2 of one voxel near a corner; no class 3."""
    labels = torch.zeros(1, *shape, dtype=torch.uint8)
    labels[0, 5:35, 5:25, 5:15] = 1
    labels[0, 3, 4, 17] = 2
    return labels


def cut(labels, seed, **options):
    image = MetaTensor(torch.as_tensor(labels, dtype=torch.float32))
    case = {"image": image, "label": MetaTensor(labels)}
    transform = RandSpatiald(
        ["image", "label"],
        patch_size=9,
        prob=0.0,
        mode=["linear", "nearest"],
        position="classes",
        label_key="label",
        **options,
    ).set_random_state(seed)
    return transform(case)


def test_every_class_is_in_the_middle_as_often_as_asked():
    counts = np.zeros(4)
    for seed in range(300):
        patch = cut(labelled(), seed, class_ratios=[1, 2, 1, 5])["label"][0]
        # A voxel near the edge of the volume is not in the middle, but in the patch.
        counts[2 if (patch == 2).any() else int(patch[4, 4, 4])] += 1
    # Class 3 is missing and its share goes to the other classes by their ratios: 1 : 8 * (2 : 1)/3.
    # The standard deviation of a count is below 9 of 300; background patches may meet class 2.
    np.testing.assert_allclose(counts, [33, 178, 89, 0], atol=35)
    assert counts[3] == 0


def test_what_a_case_lacks_does_not_make_background_more_frequent():
    """Ten classes that are a third together, and cases with one of them, or with none."""
    labels, random = torch.zeros(20, 20), np.random.RandomState(0)
    labels[3, 4] = 7
    drawn = [
        voxel_of_a_class(labels, [20, *[1] * 10], random, {7: np.array([64])}) == (3, 4)
        for _ in range(600)
    ]
    assert np.mean(drawn) == pytest.approx(1 / 3, abs=0.08)  # four standard deviations
    voxels = {voxel_of_a_class(torch.zeros(2, 2), [20, *[1] * 10], random) for _ in range(100)}
    assert len(voxels) == 4


def test_image_and_label_of_a_patch_are_one_place():
    for seed in range(20):
        case = cut(labelled(), seed, classes=3)
        assert torch.equal(case["image"].as_tensor(), case["label"].as_tensor().float())
        assert case["image"].shape == (1, 9, 9, 9)


def test_the_patch_stays_inside_where_it_fits():
    labels = torch.zeros(1, 12, 12, 5, dtype=torch.uint8)
    labels[0, 0, 0, 0] = 1
    case = cut(labels, 0, class_ratios=[0, 1])
    # 5 voxels fit twice into 9 along z: two of padding on both sides, by the affine.
    np.testing.assert_allclose(case["label"].affine[:3, 3], [0, 0, -2])
    assert case["label"][0, 0, 0, 2] == 1


def test_a_case_without_any_of_the_classes_gives_any_patch():
    random = np.random.RandomState(0)
    voxels = [voxel_of_a_class(torch.zeros(6, 5), [0, 1, 1], random) for _ in range(200)]
    assert len(set(voxels)) == 30


@pytest.mark.parametrize(
    ("ratios", "classes"), [(None, None), ([1, 1], 3), ([-1, 2], None), ([0, 0], None), (None, 0)]
)
def test_ratios_that_do_not_fit_are_refused(ratios, classes):
    with pytest.raises(InputError, match="expected the number of classes"):
        ratios_of(ratios, classes)


def test_labels_of_another_size_and_missing_labels_are_refused():
    transform = RandSpatiald(
        "image", patch_size=4, position="classes", label_key="label", classes=2
    )
    with pytest.raises(InputError, match="which the case lacks"):
        transform({"image": torch.zeros(1, 8, 8)})
    with pytest.raises(GeometryError, match="same spatial shape"):
        transform({"image": torch.zeros(1, 8, 8), "label": torch.zeros(1, 8, 7)})
    with pytest.raises(ShapeError, match="one channel"):
        transform({"image": torch.zeros(1, 8, 8), "label": torch.zeros(2, 8, 8)})


def test_labels_elsewhere_in_the_world_are_refused():
    image, affine = torch.zeros(1, 8, 8), torch.eye(3)
    elsewhere = affine.clone()
    elsewhere[0, 2] = 20
    transform = RandSpatiald(
        ["image", "label"],
        patch_size=4,
        position="classes",
        label_key="label",
        classes=2,
        different_grids=True,
    )
    case = {"image": MetaTensor(image, affine=affine), "label": MetaTensor(image, affine=elsewhere)}
    with pytest.raises(GeometryError, match="20 mm apart"):
        transform(case)
