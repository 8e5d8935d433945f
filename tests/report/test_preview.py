import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from volseg.errors import GeometryError, OutputError, ShapeError
from volseg.geometry import Affine, reorientation
from volseg.io import read_image
from volseg.report import label_color, write_preview
from volseg.report.planes import paint, telling_planes, window

SHAPE = (30, 40, 12)
AFFINE = np.array([[1.5, 0, 0, -20], [0, 1, 0, 5], [0, 0, 4, -30], [0, 0, 0, 1.0]])


def scan() -> tuple[np.ndarray, np.ndarray]:
    """A noisy image and labels: 1 right-front-up, 2 left-back-down, seen in one common slice."""
    image = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[20:27, 28:36, 5:11] = 1
    labels[3:10, 4:12, 2:7] = 2
    return image, labels


def stored(array: np.ndarray, codes: str) -> MetaTensor:
    """The array as a file with other axes would hold it: the same voxels at the same places."""
    turn = reorientation(Affine(AFFINE), codes)
    affine = turn.apply_to_affine(Affine(AFFINE), array.shape).matrix
    values = np.ascontiguousarray(turn.apply(array)[None])
    return MetaTensor(torch.from_numpy(values), affine=torch.tensor(affine.tolist()))


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def regions_of(picture: np.ndarray, label: int) -> list[tuple[float, float]]:
    """Centres (row, column) of the shapes in exactly the colour of a label, legend included."""
    found = ndimage.binary_dilation((picture == label_color(label)).all(axis=-1), iterations=2)
    numbers, count = ndimage.label(found)
    return [centre[:2] for centre in ndimage.center_of_mass(found, numbers, range(1, count + 1))]


def test_every_storage_of_a_volume_gives_the_same_picture(tmp_path):
    image, labels = scan()
    pictures = []
    for number, codes in enumerate([*itertools.product("RL", "AP", "SI"), "SAR", "PIL"]):
        path = tmp_path / f"{number}.png"
        write_preview(stored(image, "".join(codes)), stored(labels, "".join(codes)), path)
        pictures.append(pixels(path))
    assert pictures[0].shape == (500, 1200, 3)
    for other in pictures[1:]:
        np.testing.assert_array_equal(other, pictures[0])


def test_labels_are_on_their_sides():
    image, labels = scan()
    affine = Affine(AFFINE)
    axial, coronal, sagittal = telling_planes(image[None], labels, affine)
    assert axial.title == "axial  I 6.0 mm"  # of slices 5 and 6, which hold both labels
    assert (axial.edges, coronal.edges) == (("R", "L", "A", "P"), ("R", "L", "S", "I"))
    assert sagittal.edges == ("A", "P", "S", "I")
    for plane, present in ((axial, (1, 2)), (coronal, (1,)), (sagittal, (1,))):
        height, width = (round(4 * length) for length in plane.size_mm)
        painted = paint(plane, height, width, low=0, high=200)
        for label in present:
            rows, columns = np.nonzero((painted == label_color(label)).all(axis=-1))
            # Label 1 is right, front and up; label 2 is left, back and down.
            assert (rows.mean() < height / 2) == (label == 1)
            assert (columns.mean() < width / 2) == (label == 1)


def test_the_outline_is_exact_and_pixels_are_isotropic():
    image, labels = scan()
    axial, coronal, _ = telling_planes(image[None], labels, Affine(AFFINE))
    assert axial.size_mm == (40.0, 45.0)
    assert coronal.size_mm == (48.0, 45.0)
    painted = paint(coronal, 480, 450, low=0, high=200)
    rows, columns = np.nonzero((painted == label_color(1)).all(axis=-1))
    # Voxels 20..26 of 30 along x, counted from the patient's right: columns 3..9; 5..10 of 12
    # along z, counted from the top: rows 1..6.
    assert (columns.min(), columns.max() + 1) == (45, 150)
    assert (rows.min(), rows.max() + 1) == (40, 280)
    inner = painted[100:220, 60:130].reshape(-1, 3).mean(axis=0)
    assert inner[0] > inner[2] + 30  # label 1 is red, and the scan shines through
    assert painted[100:220, 60:130].std() > 1


def test_the_legend_shows_colours(tmp_path):
    image, labels = scan()
    write_preview(stored(image, "RAS"), labels, tmp_path / "x.png", names={1: "a", 9: "b" * 90})
    picture = pixels(tmp_path / "x.png")
    for label in (1, 2, 9):
        assert any(column > 940 for _, column in regions_of(picture, label))
    assert len(regions_of(picture, 9)) == 1  # it is named and not found


def test_2d_images_in_grey_and_in_colour(tmp_path):
    image, labels = (array[:, :, 6] for array in scan())
    affine = np.diag([1.5, 1, 1])
    grey = MetaTensor(torch.from_numpy(image[None]), affine=affine)
    write_preview(grey, labels[None], tmp_path / "grey.png")
    color = MetaTensor(torch.from_numpy(np.stack([image, image * 0, image * 0])), affine=affine)
    write_preview(color, labels, tmp_path / "color.png")
    picture = pixels(tmp_path / "color.png")
    assert picture[100:400, 300:650, 0].mean() > picture[100:400, 300:650, 1].mean() + 30
    panel = [place for place in regions_of(pixels(tmp_path / "grey.png"), 1) if place[1] < 900]
    assert len(panel) == 1
    assert panel[0][0] > 250  # as stored: large y is below


@pytest.mark.parametrize("values", [np.zeros(SHAPE), np.full(SHAPE, np.nan), np.ones(SHAPE)])
def test_constant_images_and_empty_labels_still_draw(tmp_path, values):
    image = MetaTensor(torch.from_numpy(values[None].astype(np.float32)), affine=AFFINE)
    write_preview(image, np.zeros(SHAPE, np.uint8), tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").shape == (500, 1200, 3)


def test_the_window_ignores_outliers_and_samples_large_images():
    image = np.random.default_rng(0).uniform(0, 100, (1, 200, 200, 120)).astype(np.float32)
    image[0, :3] = 1e6
    image[0, 3] = np.nan
    low, high = window(image[:, 3:])
    assert (low, high) == pytest.approx((1, 99), abs=0.2)
    assert window(np.eye(40)[None] * 5) == pytest.approx((0, 5))


def test_many_labels_fit_the_legend(tmp_path):
    image, _ = scan()
    labels = np.arange(image.size).reshape(SHAPE).astype(np.int32) % 90
    write_preview(stored(image, "RAS"), labels, tmp_path / "x.png")
    assert len({label_color(label) for label in range(1, 256)}) > 200


def test_unusable_input_is_named_and_nothing_is_written(tmp_path):
    image, labels = scan()
    with pytest.raises(OutputError, match=r"\.png"):
        write_preview(stored(image, "RAS"), labels, tmp_path / "x.jpg")
    with pytest.raises(ShapeError, match=r"\(30, 40, 12\)"):
        write_preview(stored(image, "RAS"), labels[1:], tmp_path / "x.png")
    with pytest.raises(GeometryError, match="a label map and its image"):
        write_preview(stored(image, "RAS"), stored(labels, "LAS"), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.data
def test_a_real_scan(data_root, tmp_path):
    image = read_image(data_root / "ct_organs" / "ct_small.nii.gz")
    labels = read_image(data_root / "ct_organs" / "ct_small_seg.nii.gz")
    write_preview(image, labels, tmp_path / "x.png", names={5: "liver"})
    picture = pixels(tmp_path / "x.png")
    liver, spleen = (
        np.nonzero((picture[:, :324] == label_color(label)).all(axis=-1))[1].mean()
        for label in (5, 1)
    )
    # The liver lies on the patient's right, which is the left of the picture.
    assert liver + 80 < spleen
