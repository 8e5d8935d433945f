"""Statistics of labels agree with scipy, numpy and scikit-image, in whatever parts they come."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid
from volseg.metrics import PERCENTS, LabelledPart, label_statistics, volume_statistics

# Oblique, with uneven spacing.
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (0.5, 2, 3)
AFFINE[:3, 3] = (10, -20, 30)


def label_map() -> np.ndarray:
    labels = np.zeros((12, 10, 8), np.uint16)
    labels[2:5, 3, 1:4] = 1
    labels[7:9, 5:9, 6] = 300
    labels[11, 9, 7] = 300
    return labels


def ellipsoid(radii: tuple[float, ...], spacing: tuple[float, ...]) -> np.ndarray:
    shape = [int(2 * radius / step) + 5 for radius, step in zip(radii, spacing, strict=True)]
    axes = [(np.arange(n) - n / 2 + 0.3) * step for n, step in zip(shape, spacing, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    return sum((a / radius) ** 2 for a, radius in zip(grid, radii, strict=True)) < 1


def test_size_and_place_agree_with_scipy_and_the_affine():
    labels = label_map()
    rows = label_statistics(labels, AFFINE, names={0: "background", 1: "one", 7: "seven"})
    assert [(row.label, row.name) for row in rows] == [(1, "one"), (7, "seven"), (300, "300")]
    for row in (rows[0], rows[2]):
        assert row.voxels == (labels == row.label).sum()
        assert row.volume_mm3 == pytest.approx(row.voxels * 3.0)
        assert row.volume_ml == pytest.approx(row.voxels * 0.003)
        assert (row.area_mm2, row.perimeter_mm, row.intensities) == (None, None, ())
        centre = ndimage.center_of_mass(labels == row.label)
        assert row.centroid_mm == pytest.approx((AFFINE @ [*centre, 1])[:3])
        indices = np.argwhere(labels == row.label)
        assert row.first_voxel == tuple(indices.min(axis=0))
        assert row.last_voxel == tuple(indices.max(axis=0))
    assert rows[1].voxels == rows[1].volume_ml == rows[1].surface_mm2 == 0
    assert rows[1].centroid_mm is rows[1].low_mm is rows[1].first_voxel is None
    assert rows == label_statistics(labels, Affine(AFFINE), names={1: "one", 7: "seven"})


def test_the_bounding_box_reaches_the_edges_of_its_voxels():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:5, 3, 4:6] = 1
    [row] = label_statistics(labels, np.diag([-2.0, 1.0, 3.0, 1.0]))
    assert row.low_mm == pytest.approx((-9, 2.5, 10.5))
    assert row.high_mm == pytest.approx((-3, 3.5, 16.5))
    [row] = label_statistics(labels, AFFINE)
    sides = itertools.product((1.5, 4.5), (2.5, 3.5), (3.5, 5.5))
    corners = [AFFINE[:3] @ [*corner, 1] for corner in sides]
    assert row.low_mm == pytest.approx(np.min(corners, axis=0))
    assert row.high_mm == pytest.approx(np.max(corners, axis=0))


def test_2d_has_an_area_and_an_outline_and_no_volume():
    [row] = label_statistics(label_map()[:, :, 2] > 0, np.diag([0.5, 2, 1]))
    assert (row.voxels, row.area_mm2, row.volume_mm3, row.volume_ml) == (3, 3.0, None, None)
    assert row.centroid_mm == (1.5, 6.0)
    assert row.surface_mm2 is None
    [disc] = label_statistics(ellipsoid((30, 30), (0.5, 0.8)), np.diag([0.5, 0.8, 1]))
    assert disc.perimeter_mm == pytest.approx(2 * np.pi * 30, rel=0.01)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 3), (0.5, 2, 1)])
@pytest.mark.parametrize("radii", [(20, 20, 20), (14, 25, 20)])
def test_surfaces_are_nearer_to_the_truth_than_those_of_marching_cubes(spacing, radii):
    mask = ellipsoid(radii, spacing)
    [row] = label_statistics(mask, np.diag([*spacing, 1.0]))
    # Thomsen's formula, within 1.1 percent of the area of any ellipsoid, exact for spheres.
    a, b, c = (radius**1.6075 for radius in radii)
    truth = 4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6075)
    assert row.surface_mm2 == pytest.approx(truth, rel=0.01 if len(set(radii)) == 1 else 0.05)
    corners, faces, _, _ = marching_cubes(np.pad(mask, 1), 0.5, spacing=spacing)
    meshed = mesh_surface_area(corners, faces)
    assert abs(row.surface_mm2 - truth) < abs(meshed - truth)


def test_a_surface_does_not_depend_on_the_order_of_the_axes_and_is_cut_at_the_edge():
    mask = ellipsoid((9, 14, 11), (0.7, 1, 2))
    [row] = label_statistics(mask, np.diag([0.7, 1, 2, 1]))
    [turned] = label_statistics(mask.transpose(2, 0, 1)[:, ::-1], np.diag([2, 0.7, 1, 1]))
    assert turned.surface_mm2 == pytest.approx(row.surface_mm2)
    half = mask[: mask.shape[0] // 2]
    padded = np.pad(half, ((0, 1), (0, 0), (0, 0)))
    cut, inside = (label_statistics(m, np.diag([0.7, 1, 2, 1]))[0] for m in (half, padded))
    assert cut.surface_mm2 == inside.surface_mm2


@pytest.mark.parametrize("kind", ["float", "whole", "both signs of zero", "constant"])
def test_intensities_agree_with_numpy_exactly(kind):
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (20, 17, 13)).astype(np.uint8)
    image = {
        "float": random.normal(-3, 1e4, (2, *labels.shape)),
        "whole": random.integers(-1024, 3071, (2, *labels.shape)),
        "both signs of zero": random.choice([-0.0, 0.0, -1e-42, 3.4e38], (2, *labels.shape)),
        "constant": np.full((2, *labels.shape), -7.25),
    }[kind].astype(np.float32)
    image[0, :2] = np.nan
    image[1, 3] = np.inf
    for row in label_statistics(labels, AFFINE, image=image):
        for channel, found in zip(image, row.intensities, strict=True):
            values = channel[labels == row.label].astype(np.float64)
            values = values[np.isfinite(values)]
            assert found.voxels == values.size
            assert (found.minimum, found.maximum) == (values.min(), values.max())
            assert found.mean == pytest.approx(values.mean(), rel=1e-12)
            assert found.standard_deviation == pytest.approx(values.std(), rel=1e-9)
            expected = np.percentile(values, PERCENTS)
            assert [*found.percentiles] == [*PERCENTS]
            assert [*found.percentiles.values()] == pytest.approx(expected, rel=1e-12)


def test_a_large_offset_does_not_drown_the_deviation():
    values = np.random.default_rng(0).normal(1e7, 5, (1, 8, 8, 8)).astype(np.float32)
    [row] = label_statistics(np.ones((8, 8, 8), np.uint8), np.eye(4), image=values)
    assert row.intensities[0].standard_deviation == pytest.approx(values.astype(float).std())


def test_more_labels_than_are_counted_at_once():
    labels = np.random.default_rng(0).integers(0, 400, (30, 30, 30))
    image = (labels * 2.0)[np.newaxis]
    rows = label_statistics(labels, np.eye(4), image=image)
    assert len(rows) == 399
    assert all(row.intensities[0].percentiles[75] == row.label * 2 for row in rows)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_parts_change_no_bit(axis, together):
    random = np.random.default_rng(1)
    labels = ndimage.gaussian_filter(random.normal(size=(15, 13, 11)), 2)
    labels = np.digitize(labels, [-0.05, 0.05]).astype(np.uint16)
    image = random.normal(40, 300, (2, *labels.shape)).astype(np.float32)
    grid = Grid(labels.shape, Affine(AFFINE))
    found = []
    for planes in (1, 4, labels.shape[axis]):
        cuts = range(0, labels.shape[axis], planes)
        place = [(slice(None),) * axis + (slice(start, start + planes),) for start in cuts]

        def label_walk(place=place, cuts=cuts):
            for start, part in zip(cuts, place, strict=True):
                yield LabelledPart(axis, start, labels[part])

        def image_walk(place=place, cuts=cuts):
            for first, stop in [(0, 2)] if together else [(0, 1), (1, 2)]:
                for start, part in zip(cuts, place, strict=True):
                    values = [image[channel][part] for channel in range(first, stop)]
                    yield LabelledPart(axis, start, labels[part], values, first)

        found.append(volume_statistics(label_walk, image_walk, grid, channels=2))
    assert found[0].labels[0].voxels > 0
    assert all(one == found[0] for one in found)
    [*whole] = label_statistics(labels, AFFINE, image=image)
    for one, other in zip(found[0].labels, whole, strict=True):
        assert one.surface_mm2 == pytest.approx(other.surface_mm2, rel=1e-12)
        assert one.centroid_mm == other.centroid_mm
        assert one.intensities[1].percentiles == other.intensities[1].percentiles
    assert found[0].image[0].voxels == labels.size


def test_unusable_input_is_named():
    with pytest.raises(InputError, match="float32"):
        label_statistics(label_map().astype(np.float32), AFFINE)
    with pytest.raises(InputError, match="from -1 to 300"):
        label_statistics(np.where(label_map() == 1, -1, label_map().astype(int)), AFFINE)
    with pytest.raises(GeometryError):
        label_statistics(label_map()[0], AFFINE)
    with pytest.raises(ShapeError, match=r"\(1, 12, 10, 7\)"):
        label_statistics(label_map(), AFFINE, image=np.zeros((1, 12, 10, 7)))
