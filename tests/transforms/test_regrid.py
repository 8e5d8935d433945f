import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientation
from scipy.ndimage import map_coordinates

from volseg.errors import GeometryError, InputError, UnknownNameError
from volseg.geometry import Affine, Grid, index_mapping, parallel_grid, relate_grids
from volseg.io import grid_of
from volseg.transforms import Regridd, regrid
from volseg.transforms.regrid import in_target_order, interpolated

SHAPE = (11, 8, 6)
SPACING = (0.7, 1.3, 3.0)
ORDERS = list(itertools.permutations(range(3)))
SIGNS = list(itertools.product((1, -1), repeat=3))


def oblique(order=(0, 1, 2), signs=(1, 1, 1), shape=SHAPE, spacing=SPACING):
    """A grid turned a little in the world, its axes in any order and direction."""
    turn, _ = np.linalg.qr(np.array([[1, 0.1, 0.05], [-0.1, 1, 0.2], [-0.05, -0.2, 1]]))
    turn = turn * np.sign(np.diag(turn))
    matrix = np.eye(4)
    matrix[:3, :3] = (turn * signs * np.array(spacing))[:, order]
    matrix[:3, 3] = (-31, 12, 7)
    return Grid(tuple(shape[axis] for axis in order), Affine(matrix))


def image_on(grid, seed=0, channels=2):
    values = np.random.default_rng(seed).normal(size=(channels, *grid.shape)).astype(np.float32)
    return MetaTensor(torch.from_numpy(values), affine=torch.tensor(grid.affine.matrix.tolist()))


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("order", ORDERS)
def test_reorienting_is_monais_bit_for_bit(order, signs):
    image = image_on(oblique(order, signs))
    found = Regridd("image", orientation="RAS")({"image": image})["image"]
    expected = Orientation(axcodes="RAS", labels=None)(image)
    assert torch.equal(found.as_tensor(), expected.as_tensor())
    torch.testing.assert_close(found.affine, expected.affine)


@pytest.mark.parametrize(("order", "signs"), [(ORDERS[0], SIGNS[0]), (ORDERS[4], SIGNS[5])])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.35, 2.9, 3.0), (5, 5, 0.5)])
def test_linear_is_that_of_itk_in_the_world(order, signs, spacing):
    grid = oblique(order, signs)
    image = image_on(grid, channels=1)
    found = Regridd("image", orientation="RAS", spacing=spacing)({"image": image})["image"]
    target = grid_of(found)
    np.testing.assert_allclose(target.spacing, spacing, rtol=1e-6)
    np.testing.assert_allclose(target.centre, grid.centre, atol=1e-6)
    assert np.all(
        np.abs(np.array(target.extent) - reoriented_extent(grid)) <= np.array(spacing) / 2
    )
    place = index_mapping(grid, target)
    at = place.apply(np.stack(np.indices(target.shape), axis=-1).reshape(-1, 3))
    at = np.clip(at, 0, np.array(grid.shape) - 1)
    expected = map_coordinates(image[0].numpy(), at.T, order=1).reshape(target.shape)
    np.testing.assert_allclose(found[0], expected, atol=2e-5)
    # ITK has its own geometry; it agrees wherever it is inside.
    resampled = sitk.GetArrayFromImage(
        sitk.Resample(as_itk(image[0].numpy(), grid), as_itk(found[0].numpy(), target))
    ).T
    inside = ((at > 0) & (at < np.array(grid.shape) - 1)).all(1).reshape(target.shape)
    assert inside.any()
    np.testing.assert_allclose(found[0].numpy()[inside], resampled[inside], atol=1e-4)


def reoriented_extent(grid):
    return np.array(parallel_grid(grid, orientation="RAS").extent)


def as_itk(values, grid):
    flip = np.diag([-1.0, -1, 1])
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    matrix = grid.affine.matrix
    spacing = np.array(grid.spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((flip @ matrix[:3, 3]).tolist())
    image.SetDirection((flip @ (matrix[:3, :3] / spacing)).ravel().tolist())
    return image


def test_nearest_takes_the_class_of_the_nearest_voxel():
    grid = oblique()
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 9, (1, *SHAPE)).astype(np.uint8))
    target = parallel_grid(grid, spacing=(0.5, 0.9, 1.1))
    found = regrid(labels, grid, target, mode="nearest")
    assert found.dtype == torch.uint8
    at = index_mapping(grid, target).apply(np.stack(np.indices(target.shape), axis=-1))
    nearest = np.clip(np.floor(at + 0.5 + 1e-9), 0, np.array(SHAPE) - 1).astype(int)
    assert np.array_equal(found[0], labels[0].numpy()[tuple(np.moveaxis(nearest, -1, 0))])


def test_the_same_spacing_copies_and_keeps_the_type():
    grid = oblique(spacing=(1.0, 1.0004, 2.0))
    values = torch.arange(2 * 11 * 8 * 6, dtype=torch.int16).reshape(2, *SHAPE)
    target = parallel_grid(grid, spacing=(1, 1, 2))
    assert target == grid
    for kind in (torch.int16, torch.bfloat16, torch.bool):
        given = values.to(kind)
        found = regrid(given, grid, target, mode="nearest")
        assert found.dtype == kind
        assert torch.equal(found, given)
        assert found.data_ptr() != given.data_ptr()
    # A value between voxels needs a type that can hold it, on every grid of a data set.
    assert regrid(values, grid, target).dtype == torch.float32
    assert torch.equal(regrid(values, grid, target), values.float())


def test_a_part_is_that_part_of_the_whole_bit_for_bit():
    grid = oblique()
    values = image_on(grid).as_tensor().numpy()
    target = parallel_grid(grid, spacing=(0.5, 1.0, 1.0))
    samplings = relate_grids(grid, target)
    whole = interpolated(in_target_order(values, samplings), samplings)
    part = [
        type(s)(s.target_axis, s.lower[3:7], s.upper[3:7], s.weight[3:7]) if i == 0 else s
        for i, s in enumerate(samplings)
    ]
    assert np.array_equal(interpolated(values, part), whole[:, 3:7])


@pytest.mark.parametrize("spacing", [None, (1, 1, 1)])
def test_inverse_and_invertd_lead_back_to_the_grid_of_the_file(spacing):
    grid = oblique(ORDERS[3], SIGNS[2])
    image = image_on(grid)
    transform = Regridd("image", orientation="RAS", spacing=spacing)
    moved = transform({"image": image})
    back = transform.inverse(moved)["image"]
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, image.affine)
    if spacing is None:
        assert torch.equal(back.as_tensor(), image.as_tensor())
    # Label maps are never averaged on the way back: Invertd's default.
    labels = MetaTensor((moved["image"].as_tensor() > 0).float() * 2)
    case = {"image": moved["image"], "pred": labels}
    inverted = Invertd("pred", Compose([transform]), "image")(case)["pred"]
    assert set(inverted.unique().tolist()) == {0, 2}
    # A prediction on the network's grid: a constant stays one, and lands on the file's grid.
    composed = Compose([transform])
    case = composed({"image": image})
    case["pred"] = MetaTensor(torch.full_like(case["image"].as_tensor(), 3.0))
    inverted = Invertd("pred", composed, "image", nearest_interp=False)(case)["pred"]
    assert torch.equal(inverted.as_tensor(), torch.full_like(image.as_tensor(), 3.0))


def test_pictures():
    image = MetaTensor(
        torch.arange(12.0).reshape(1, 4, 3), affine=torch.diag(torch.tensor([2.0, 1, 1]))
    )
    found = Regridd("image", spacing=(1, 1))({"image": image})["image"]
    assert found.shape == (1, 8, 3)
    # Places of the 8 voxels in the 4: -0.25, 0.25, 0.75, ...
    expected = np.interp(np.arange(8) / 2 - 0.25, range(4), image[0, :, 0])
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(InputError, match="not known"):
        Regridd("image")({"image": torch.zeros(1, 3, 3)})
    with pytest.raises(UnknownNameError, match="nearest"):
        Regridd("image", mode="nearst")
    with pytest.raises(GeometryError, match="3 positive numbers"):
        Regridd("image", spacing=(1, 1))({"image": image_on(oblique())})
    with pytest.raises(GeometryError, match="parallel axes only"):
        regrid(torch.zeros(1, *SHAPE), oblique(), Grid(SHAPE, Affine(np.eye(4))))
