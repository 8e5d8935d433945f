import itertools
import pickle

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, Invertd, Orientationd

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid
from volseg.transforms import RandElasticd, RandRotated, RandSpatiald
from volseg.transforms.movement import pull_of

ORIENTATIONS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)
SHAPE = (9, 7, 5)
SPACING = (0.7, 1.0, 2.5)
STILL = {"rotation": 0.0, "scale": (1.0, 1.0), "displacement": 0.0}


def volume(values, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    axes = values.ndim - 1
    affine = np.diag([*spacing[:axes], 1.0])
    affine[:axes, -1] = origin[:axes]
    return MetaTensor(torch.as_tensor(values), affine=affine)


def smooth(shape, seed=0):
    """An asymmetric smooth image of values around 0."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) / np.reshape(shape, (-1, *[1] * len(shape)))
    waves = [
        np.cos(2 * np.pi * np.tensordot(rng.uniform(-0.7, 0.7, len(shape)), grid, 1) + p)
        for p in rng.uniform(0, 6, 4)
    ]
    return sum(waves)[None].astype(np.float32)


def parameters(transform, image, **changed):
    """A draw with some of its numbers replaced."""
    drawn = transform.draw(pull_grid(image))
    return {**drawn, **changed}


def pull_grid(image):
    from volseg.io import grid_of

    return grid_of(image)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_48_orientations_are_exact(order, signs):
    """Flips and turns by 90 degrees of an asymmetric phantom, against numpy's views."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (1, *SHAPE)).astype(np.int16)
    image = volume(values)
    # Content: output axis i shows input axis order[i], so as a matrix P[i, order[i]] = 1.
    matrix = np.zeros((3, 3))
    matrix[range(3), order] = signs
    expected = np.transpose(values[0], order)
    expected = expected[tuple(slice(None, None, sign) for sign in signs)]
    flip = [1.0, 1.0, 1.0]
    if np.linalg.det(matrix) < 0:
        flip[0] = -1.0
    turn = matrix @ np.diag(flip)  # content = turn @ flip
    about_y = np.arcsin(np.clip(-turn[2, 0], -1, 1))
    if abs(turn[2, 0]) < 0.5:
        about_x, about_z = np.arctan2(turn[2, 1], turn[2, 2]), np.arctan2(turn[1, 0], turn[0, 0])
    else:
        about_x, about_z = np.arctan2(-turn[1, 2], turn[1, 1]), 0.0
    transform = RandSpatiald("image", mode="nearest", **STILL)
    draw = parameters(
        transform,
        image,
        rotation=[about_x, about_y, about_z],
        flip=flip,
        size=list(expected.shape),
        centre=[(n - 1) / 2 for n in SHAPE],
    )
    found = transform.apply({"image": image}, draw)["image"]
    np.testing.assert_array_equal(found[0].numpy(), expected)
    # Each voxel is still where it was in the world.
    for corner in [(0, 0, 0), tuple(n - 1 for n in expected.shape), (1, 2, 1)]:
        world = found.affine.numpy() @ [*corner, 1]
        index = np.rint(np.linalg.inv(image.affine.numpy()) @ world)[:3].astype(int)
        assert values[0][tuple(index)] == found[0].numpy()[corner]


@pytest.mark.parametrize(
    ("axis", "before", "after"),
    [(0, (4, 6, 4), (4, 4, 6)), (1, (4, 4, 6), (6, 4, 4)), (2, (6, 4, 4), (4, 6, 4))],
)
def test_a_positive_angle_turns_y_to_z_z_to_x_and_x_to_y(axis, before, after):
    values = np.zeros((1, 9, 9, 9), np.uint8)
    values[0][before] = 1
    image = volume(values)
    transform = RandRotated("image", mode="nearest")
    angles = [0.0, 0.0, 0.0]
    angles[axis] = np.pi / 2
    found = transform.apply({"image": image}, parameters(transform, image, rotation=angles))
    assert tuple(np.argwhere(found["image"][0].numpy())[0]) == after


def test_a_positive_angle_in_2d_turns_x_to_y():
    values = np.zeros((1, 9, 9), np.uint8)
    values[0, 7, 4] = 1
    image = volume(values)
    transform = RandRotated("image", mode="nearest")
    found = transform.apply({"image": image}, parameters(transform, image, rotation=[np.pi / 2]))
    assert found["image"][0, 4, 7] == 1


def test_rotation_scale_and_translation_are_in_millimetres():
    """A point 6 mm along x from the middle, turned to z where voxels are 3 mm: 2 voxels."""
    values = np.zeros((1, 17, 5, 9), np.uint8)
    values[0, 8 + 6, 2, 4] = 1
    image = volume(values, spacing=(1.0, 1.0, 3.0))
    transform = RandSpatiald("image", mode="nearest", **STILL)
    turned = parameters(transform, image, rotation=[0.0, -np.pi / 2, 0.0])
    found = transform.apply({"image": image}, turned)["image"][0]
    assert found[8, 2, 4 + 2] == 1
    larger = parameters(transform, image, scale=[0.5, 1.0, 1.0])
    assert transform.apply({"image": image}, larger)["image"][0, 8 + 3, 2, 4] == 1
    moved = parameters(transform, image, translation=[1.0, -2.0, 3.0])
    assert transform.apply({"image": image}, moved)["image"][0, 15, 0, 5] == 1


@pytest.mark.parametrize("shape", [(24, 30), (16, 14, 12)])
def test_a_landmark_is_found_again_in_the_world(shape):
    """A blob's centre of mass, mapped by the new affine, is where it was."""
    middle = (np.array(shape) - 1) / 2 + np.linspace(-1, 1, len(shape))
    apart = np.indices(shape) - middle.reshape(-1, *[1] * len(shape))
    values = np.exp(-(apart**2).sum(0) / (2 * 1.3**2))[None].astype(np.float32)
    image = volume(values, SPACING, (10.0, -4.0, 3.0))
    world = image.affine.numpy() @ [*middle, 1]
    transform = RandSpatiald(
        "image", displacement=0.0, rotation=0.4, shear=0.1, translation=0.5, flip_axes=[0]
    )
    for seed in range(5):
        transform.set_random_state(seed)
        found = transform({"image": image})["image"]
        mass = found[0].numpy().astype(float)
        centre = (np.indices(mass.shape) * mass).reshape(len(shape), -1).sum(1) / mass.sum()
        np.testing.assert_allclose(found.affine.numpy() @ [*centre, 1], world, atol=0.06)


@pytest.mark.parametrize("shape", [(40, 33), (24, 21, 18)])
def test_a_label_made_by_threshold_stays_the_threshold(shape):
    image = volume(smooth(shape), SPACING)
    label = volume((smooth(shape) > 0.3).astype(np.uint8), SPACING)
    transform = RandSpatiald(["image", "label"], mode=["linear", "nearest"], padding="border")
    transform.set_random_state(3)
    moved = transform({"image": image, "label": label})
    clear = (moved["image"] - 0.3).abs() > 0.5
    assert clear.float().mean() > 0.5
    assert torch.equal((moved["image"] > 0.3)[clear], (moved["label"] == 1)[clear])
    # The comparison can fail: the label as it was is another one.
    assert ((label == 1) != (moved["label"] == 1)).float().mean() > 0.05


def test_a_patch_is_that_part_of_the_whole():
    image = volume(smooth((30, 26, 20)), SPACING)
    whole = RandSpatiald("image", displacement=0.0, translation=2.0)
    draw = parameters(whole, image)
    everything = whole.apply({"image": image}, draw)["image"]
    linear = pull_of(draw, pull_grid(image)).matrix
    centre = linear @ [*(np.array([10, 9, 8]) + 3.5), 1]
    back = np.linalg.inv(linear[:3, :3])
    assert np.isfinite(back).all()
    # The same mapping from voxel (10, 9, 8) on; the shift is already in the centre.
    part = {**draw, "size": [8, 8, 8], "centre": centre[:3].tolist(), "translation": [0.0] * 3}
    found = whole.apply({"image": image}, part)["image"]
    np.testing.assert_allclose(found, everything[:, 10:18, 9:17, 8:16], atol=1e-4)
    np.testing.assert_allclose(
        found.affine.numpy() @ [0, 0, 0, 1], everything.affine.numpy() @ [10, 9, 8, 1], atol=1e-6
    )


@pytest.mark.parametrize("position", ["random", "middle"])
def test_without_any_movement_the_patch_is_a_crop_bit_for_bit(position):
    image = volume(smooth((12, 9, 7)), SPACING, (1.0, 2.0, 3.0))
    transform = RandSpatiald("image", patch_size=(4, 5, 9), position=position, prob=0.0)
    transform.set_random_state(1)
    found = transform({"image": image})["image"]
    start = np.rint(np.linalg.inv(image.affine.numpy()) @ found.affine.numpy()[:, 3])[:3].astype(
        int
    )
    assert start[2] == -1
    part = image[:, start[0] : start[0] + 4, start[1] : start[1] + 5]
    assert torch.equal(found.as_tensor()[..., 1:8], part.as_tensor())
    assert (found[..., 0] == 0).all()


def test_random_patches_reach_every_corner_and_never_leave():
    image = volume(np.zeros((1, 4, 5), np.float32))
    transform = RandSpatiald("image", patch_size=3, prob=0.0)
    transform.set_random_state(0)
    starts = {tuple(np.array(transform.draw(pull_grid(image))["centre"]) - 1) for _ in range(100)}
    assert starts == set(itertools.product((0.0, 1.0), (0.0, 1.0, 2.0)))


def test_same_seed_same_result_and_another_draw_each_time():
    data = {"image": volume(smooth((12, 10, 8)))}
    transform = RandSpatiald("image")
    transform.set_random_state(5)
    first, second = transform(data)["image"], transform(data)["image"]
    again = RandSpatiald("image")
    again.set_random_state(5)
    assert torch.equal(again(data)["image"], first)
    assert torch.equal(pickle.loads(pickle.dumps(again))(data)["image"], second)
    assert not torch.equal(first, second)


def test_the_record_is_plain_and_can_be_applied_again():
    data = {"image": volume(smooth((12, 10, 8)), SPACING)}
    transform = RandSpatiald("image", patch_size=6, flip_axes=[0, 1])
    moved = transform(data)["image"]
    recorded = moved.applied_operations[-1]["extra_info"]["parameters"]
    plain = yaml.safe_load(yaml.safe_dump(recorded))
    assert torch.equal(RandSpatiald("image").apply(data, plain)["image"], moved)


def test_inverse_gives_the_image_and_the_affine_back():
    shape = (36, 32, 28)
    data = {"image": volume(smooth(shape), SPACING, (5.0, 6.0, 7.0))}
    transform = RandSpatiald("image", rotation=0.2, scale=(0.9, 0.95), mode="cubic")
    transform.set_random_state(2)
    moved = transform(data)
    back = transform.inverse(moved)["image"]
    assert back.shape == data["image"].shape
    np.testing.assert_allclose(back.affine, data["image"].affine, atol=1e-9)
    core = (slice(None), *(slice(9, -9),) * 3)
    np.testing.assert_allclose(back[core], data["image"][core], atol=0.02)
    assert (moved["image"][core] - data["image"][core]).abs().max() > 0.3
    assert back.applied_operations == []
    assert len(moved["image"].applied_operations) == 1


def test_invertd_brings_a_prediction_back():
    data = {"image": volume(smooth((20, 18)), SPACING)}
    prepare = Compose([RandRotated("image", rotation=0.3), RandElasticd("image", displacement=1.0)])
    moved = prepare(data)
    moved["pred"] = MetaTensor((moved["image"] > 0).to(torch.uint8).as_tensor())
    post = Invertd("pred", prepare, orig_keys="image", nearest_interp=False)
    back = post(moved)["pred"]
    assert back.shape == (1, 20, 18)
    np.testing.assert_allclose(back.affine, data["image"].affine, atol=1e-6)
    core = (slice(None), slice(5, -5), slice(5, -5))
    assert ((back[core] > 0.5) == (data["image"][core] > 0)).float().mean() > 0.93


def test_a_label_map_comes_back_with_its_classes_only():
    image = volume(smooth((20, 18, 16)))
    composed = Compose([RandSpatiald("image", rotation=0.4)]).set_random_state(0)
    case = composed({"image": image})
    case["pred"] = MetaTensor((case["image"].as_tensor() > 0).float() * 2)
    back = Invertd("pred", composed, "image")(case)["pred"]
    assert set(back.unique().tolist()) == {0, 2}


@pytest.mark.parametrize("patch", [(64, 64, 64), (192, 192, 48), (64, 64, 3), (64, 64, 1)])
def test_a_thin_patch_is_deformed_as_much_as_a_thick_one(patch):
    image = volume(np.zeros((1, *patch), np.uint8))
    transform = RandElasticd("image", displacement=1.5, control_points=4).set_random_state(0)
    found = [np.std(parameters(transform, image)["displacement"]) for _ in range(20)]
    assert np.mean(found) == pytest.approx(1.5, rel=0.25)


@pytest.mark.parametrize("slices", [1, 3, 6])
def test_a_slab_is_deformed_in_its_plane_by_default_as_much_as_a_cube(slices):
    def spread(*patch):
        image = volume(np.zeros((1, *patch), np.uint8))
        transform = RandSpatiald("image").set_random_state(0)
        found = [parameters(transform, image)["displacement"] for _ in range(20)]
        return np.sqrt(np.mean([np.square(one).reshape(3, -1).mean(axis=1) for one in found], 0))

    cube, slab = spread(64, 64, 64), spread(64, 64, slices)
    np.testing.assert_allclose(slab[:2], cube[:2], rtol=0.25)
    # Across it no further than a part of what there is.
    assert 0 < slab[2] < 0.2 * max(slices - 1, 1)


def test_arrays_and_tensors_with_gradients_are_taken():
    values = smooth((9, 8))
    expected = RandSpatiald("image").set_random_state(0)({"image": torch.from_numpy(values)})
    for given_image in (values, torch.from_numpy(values).requires_grad_()):
        found = RandSpatiald("image").set_random_state(0)({"image": given_image})
        assert torch.equal(found["image"], expected["image"])


def test_plain_tensors_on_different_grids_are_refused_in_any_case():
    case = {"a": torch.zeros(1, 8, 8), "b": torch.zeros(1, 16, 16)}
    with pytest.raises(GeometryError, match="same spatial shape"):
        RandSpatiald(["a", "b"], different_grids=True)(case)


def test_keys_on_different_grids_are_refused_with_both_geometries():
    data = {
        "image": volume(smooth((12, 10, 8)), (1, 1, 1)),
        "label": volume(smooth((12, 10, 4)), (1, 1, 2)),
    }
    with pytest.raises(GeometryError, match="12 x 10 x 8 voxels.*12 x 10 x 4 voxels"):
        RandSpatiald(["image", "label"])(data)
    far = {"image": data["image"], "label": volume(smooth((12, 10, 8)), origin=(500.0, 0, 0))}
    with pytest.raises(GeometryError, match="do not overlap in the world.*500"):
        RandSpatiald(["image", "label"], different_grids=True)(far)


def test_keys_on_different_grids_of_one_world_are_read_through_their_affines():
    """The same linear function of the world, stored on two grids, stays the same."""
    fine, coarse = (20, 18, 16), (12, 11, 10)
    turn = np.array([[0, -2.0, 0, 22], [1.9, 0, 0, -1], [0, 0, 2.1, -1], [0, 0, 0, 1]])

    def ramp(shape, affine):
        indices = np.concatenate([np.indices(shape), np.ones((1, *shape))])
        world = np.tensordot(affine, indices, 1)
        return MetaTensor(
            torch.from_numpy(world[0] + 2 * world[1] - world[2]).float()[None], affine=affine
        )

    data = {"image": ramp(fine, np.eye(4)), "other": ramp(coarse, turn)}
    transform = RandSpatiald(
        ["image", "other"], patch_size=8, position="middle", different_grids=True
    )
    transform.set_random_state(0)
    moved = transform(data)
    np.testing.assert_allclose(moved["image"], moved["other"], atol=2e-3)
    np.testing.assert_allclose(moved["image"].affine, moved["other"].affine, atol=1e-9)


def test_default_draws_never_fold():
    for shape, spacing in [((64, 48), (1, 1)), ((24, 20, 9), SPACING)]:
        image = volume(np.zeros((1, *shape), np.float32), spacing)
        for transform in (RandSpatiald("image"), RandElasticd("image")):
            transform.set_random_state(0)
            for _ in range(8):
                pull = pull_of(transform.draw(pull_grid(image)), pull_grid(image))
                [(_, locate)] = pull.slabs(torch.device("cpu"), 10**9)
                at = locate().reshape(len(shape), *shape).numpy().astype(float)
                gradients = [np.stack(np.gradient(a, axis=range(len(shape))), -1) for a in at]
                assert np.linalg.det(np.stack(gradients, -2)).min() > 0


def test_some_draws_are_mirrored_and_deformed_and_not_moved():
    transform = RandSpatiald("image", prob_affine=0.3, flip_axes=[0], translation=2.0)
    transform.set_random_state(0)
    grid = Grid((8, 9, 10), Affine(np.eye(4)))
    draws = [transform.draw(grid) for _ in range(400)]
    moved = [np.any(np.not_equal(draw["rotation"], 0)) for draw in draws]
    assert 0.25 < np.mean(moved) < 0.35
    for draw, is_moved in zip(draws, moved, strict=True):
        assert is_moved == np.any(np.not_equal(draw["scale"], 1))
        assert is_moved == np.any(np.not_equal(draw["translation"], 0))
        assert np.any(draw["displacement"])
    still = [draw["flip"][0] for draw, is_moved in zip(draws, moved, strict=True) if not is_moved]
    assert 0.4 < np.mean(np.equal(still, -1)) < 0.6


def test_elastic_is_the_recipe_of_the_original_unet():
    image = volume(np.zeros((1, 512, 512), np.float32), (0.5, 0.5))
    transform = RandElasticd("image")
    transform.set_random_state(0)
    drawn = [transform.draw(pull_grid(image)) for _ in range(60)]
    nodes = np.array([d["displacement"] for d in drawn]) / 0.5
    assert nodes.shape == (60, 2, 3, 3)
    assert abs(nodes.std() - 10) < 0.7
    assert all(d["rotation"] == [0.0] and d["scale"] == [1.0, 1.0] for d in drawn)


def test_displacement_in_mm_follows_the_spacing():
    image = volume(np.zeros((1, 100, 100, 20), np.float32), (0.5, 1.0, 5.0))
    transform = RandSpatiald("image", displacement=2.0, control_points=3)
    transform.set_random_state(0)
    pulls = [pull_of(transform.draw(pull_grid(image)), pull_grid(image)) for _ in range(40)]
    spread = np.array([p.nodes for p in pulls]).std(axis=(0, 2, 3, 4))
    np.testing.assert_allclose(spread, [4.0, 2.0, 0.4], rtol=0.15)


def test_in_yaml_with_a_cache():
    text = """
    augment:
      _target_: monai.transforms.Compose
      transforms:
        - _target_: volseg.transforms.RandSpatiald
          keys: [image, label]
          patch_size: [8, 6]
          rotation: 0.5
          scale: [0.7, 1.4]
          displacement: 1.0
          unit: voxels
          mode: [linear, nearest]
    """
    augment = ConfigParser(yaml.safe_load(text)).get_parsed_content("augment")
    case = {
        "image": volume(smooth((12, 10))),
        "label": volume((smooth((12, 10)) > 0).astype(np.uint8)),
    }
    dataset = CacheDataset([case] * 4, augment, progress=False)
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["image"].shape == (4, 1, 8, 6)
    assert batch["label"].dtype == torch.uint8
    assert not torch.equal(batch["image"][0], batch["image"][1])


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.float16, torch.float32, torch.float64]),
    spacing=st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    mode=st.sampled_from(["linear", "cubic", "nearest", "classes"]),
    padding=st.sampled_from(["zeros", "border", "reflection"]),
    patch=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 100),
)
def test_any_shape_type_and_spacing(shape, channels, dtype, spacing, mode, padding, patch, seed):
    values = np.random.default_rng(seed).integers(1, 5, (channels, *shape))
    image = volume(torch.as_tensor(values).to(dtype), spacing)
    transform = RandSpatiald(
        "image", patch_size=patch, mode=mode, padding=padding, flip_axes=[0], shear=0.2
    )
    transform.set_random_state(seed)
    found = transform({"image": image})["image"]
    assert found.shape == (channels, *([patch] * len(shape) if patch else shape))
    assert torch.isfinite(found.as_tensor().float()).all()
    if mode != "cubic":  # a cubic spline may overshoot
        assert found.min() >= (0 if padding == "zeros" else values.min())
        assert found.max() <= values.max() + 1e-5
    assert transform.inverse({"image": found})["image"].shape == image.shape


def test_plain_tensors_and_missing_keys():
    transform = RandSpatiald(
        ["image", "label"], mode=["linear", "nearest"], allow_missing_keys=True
    )
    moved = transform({"image": torch.rand(2, 6, 5), "name": "x"})
    assert type(moved["image"]) is torch.Tensor
    assert moved["name"] == "x"
    with pytest.raises(ShapeError, match="channels"):
        transform({"image": torch.rand(6, 5)})
    with pytest.raises(InputError, match="only those record"):
        transform.inverse(moved)


def test_a_2d_image_keeps_an_affine_of_three_axes():
    image = MetaTensor(torch.rand(1, 6, 8), affine=np.diag([0.5, 2.0, 9.0, 1.0]))
    found = RandSpatiald("image")({"image": image})["image"]
    assert found.affine.shape == (4, 4)
    assert found.affine[2, 2] == 9.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "corner"}, "'corner'"),
        ({"unit": "cm"}, "'cm'"),
        ({"scale": (1.2, 0.8)}, "smallest and the largest"),
        ({"control_points": 1}, "at least 2"),
        ({"shear": 0.6}, "less than 0.5"),
        ({"prob_elastic": 7}, "prob_elastic is 7; expected 0 to 1"),
        ({"prob_affine": -1}, "prob_affine is -1; expected 0 to 1"),
        ({"translation": float("nan")}, "finite numbers"),
        ({"displacement": -1.0}, "finite numbers"),
        ({"mode": "bilinear"}, "linear"),
        ({"padding": "zero"}, "zeros"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(InputError, match=message):
        RandSpatiald("image", **options)


def test_movements_out_of_this_world_are_refused():
    with pytest.raises(InputError, match="check translation"):
        RandSpatiald("image", translation=1e39)({"image": torch.zeros(1, 8, 8)})
    with pytest.raises(InputError, match="axes from 0 to 1"):
        RandSpatiald("image", flip_axes=[2])({"image": torch.zeros(1, 8, 8)})


def test_a_wrong_number_of_angles():
    with pytest.raises(InputError, match="rotation has 2 numbers.*expected one number or 3"):
        RandSpatiald("image", rotation=[0.1, 0.2])({"image": volume(smooth((5, 5, 5)))})


def test_in_a_lazy_composition_what_is_pending_comes_first():
    image = volume(smooth((12, 10, 8)), spacing=(1.0, 1.0, 2.0))
    results = []
    for lazy in (False, True):
        composed = Compose(
            [
                Orientationd("image", axcodes="PIL", labels=None),
                RandSpatiald("image", patch_size=6),
            ],
            lazy=lazy,
        ).set_random_state(0)
        results.append(composed({"image": image.clone()})["image"])
    assert not results[1].pending_operations
    torch.testing.assert_close(results[0].as_tensor(), results[1].as_tensor())
    torch.testing.assert_close(results[0].affine, results[1].affine)


@pytest.mark.parametrize("moves", [{}, {"flip_axes": [0, 1]}, {"rotation": 3.14}])
def test_labels_beside_their_image_lie_beside_it_by_as_much_when_moved(moves):
    """A drawing 1 and 3 pixels beside what it names: drawn anew after the move, it is the same."""
    offset = (1.0, -3.0)
    shape = np.array([64, 48])
    apart = np.indices(shape) - np.reshape([30.0, 26.0], (2, 1, 1))
    square = ((np.abs(apart) < [[[9]], [[6]]]).all(0)).astype(np.float32)[None]
    drawn = np.roll(square, [-int(step) for step in offset], axis=(1, 2))
    options = {**STILL, "scale": (0.8, 1.25), "shear": 0.2, **moves}
    keys = {"keys": ["image", "label"], "label_key": "label", "mode": "linear"}
    for seed in range(6):
        moved = []
        for beside in (offset, (0.0, 0.0)):
            transform = RandSpatiald(**keys, label_offset=beside, **options)
            transform.set_random_state(seed)
            case = {"image": volume(square), "label": volume(drawn if any(beside) else square)}
            moved.append(transform(case))
        shown, alike = moved
        np.testing.assert_array_equal(shown["image"], alike["image"])
        again = np.roll(alike["label"].numpy(), [-int(step) for step in offset], axis=(1, 2))
        np.testing.assert_allclose(shown["label"].numpy(), again, atol=1e-4)


def test_an_offset_of_labels_has_a_number_an_axis():
    transform = RandSpatiald(["image", "label"], label_key="label", label_offset=(0.5,))
    image = volume(np.zeros((1, 8, 8), np.float32))
    with pytest.raises(InputError, match=r"label_offset is \[0.5\]; expected 2 numbers"):
        transform({"image": image, "label": image})
    with pytest.raises(InputError, match="label_offset is of the key None; expected one of"):
        RandSpatiald(["image", "label"], label_offset=(0.5, 0.0))
    with pytest.raises(InputError, match="expected finite numbers of voxels"):
        RandSpatiald("image", label_offset=(float("nan"), 0.0))
