"""NRRD, MetaImage and pictures, against SimpleITK and Pillow."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch
from PIL import Image

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine
from volseg.io import describe_image, read_image, write_image

FLIP = np.diag([-1.0, -1, 1])


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["nrrd/breast1_image.nrrd", "nrrd/breast1_label.nrrd", "volume.mha"]
)
def test_real_files_agree_with_simpleitk(data_root: Path, name: str) -> None:
    path = data_root / "nifti_odd" / name
    image, reference = read_image(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(image[0].numpy().T, sitk.GetArrayFromImage(reference))
    affine = image.affine.numpy()
    for index in itertools.product(*((0, n - 1) for n in reference.GetSize())):
        world = affine @ [*index, 1]
        np.testing.assert_allclose(
            FLIP @ world[:3], reference.TransformIndexToPhysicalPoint(index), atol=1e-9
        )


NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{}\n\n"
DIRECTIONS = "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)"


@pytest.mark.parametrize(
    ("space", "world"),
    [
        ("right-anterior-superior", [12, 23, 34]),
        ("RAS", [12, 23, 34]),
        ("left-posterior-superior", [-12, -23, 34]),
        ("left-anterior-superior", [-12, 23, 34]),
    ],
)
def test_nrrd_spaces(tmp_path: Path, space: str, world: list[float]) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(f"space: {space}\n{DIRECTIONS}").encode() + bytes(range(8)))
    image = read_image(path)
    np.testing.assert_allclose(image.affine.numpy() @ [1, 1, 1, 1], [*world, 1])
    assert image[0, 1, 0, 0] == 1


@pytest.mark.parametrize(
    ("space", "world"),
    [
        ("right-anterior-superior", [12, 23, 34]),
        ("left-posterior-superior", [-12, -23, 34]),
        ("left-anterior-superior", [-12, 23, 34]),
    ],
)
def test_nrrd_spaces_with_time(tmp_path: Path, space: str, world: list[float]) -> None:
    header = (
        "NRRD0004\ntype: uchar\ndimension: 4\nsizes: 2 2 2 3\nencoding: raw\n"
        f"space: {space}-time\n"
        "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0) (0,0,0,1)\n"
        "space origin: (10,20,30,0)\n"
        'space units: "mm" "mm" "mm" "s"\n\n'
    )
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + bytes(range(24)))
    image = read_image(path)
    assert image.shape == (3, 2, 2, 2)
    np.testing.assert_allclose(image.affine.numpy() @ [1, 1, 1, 1], [*world, 1])
    assert image[1, 1, 0, 0] == 9


@pytest.mark.parametrize("fields", ["spacings: 1 2 3", f"space: 3D-right-handed\n{DIRECTIONS}"])
def test_nrrd_without_anatomical_space_is_refused(tmp_path: Path, fields: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(fields).encode() + bytes(8))
    with pytest.raises(GeometryError, match="'space'"):
        read_image(path)
    assert read_image(path, orientation="LAS").affine[0, 0] < 0


def test_metaimage_without_matrix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementSpacing = 1 2 3\n"
    path.write_bytes((header + "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n").encode())
    with path.open("ab") as stream:
        stream.write(bytes(8))
    with pytest.raises(GeometryError, match="TransformMatrix.*volseg convert IN OUT --orientation"):
        read_image(path)
    np.testing.assert_array_equal(
        read_image(path, orientation="RAS").affine, np.diag([1.0, 2, 3, 1])
    )


MHA = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n{}\n"
MATRIX = "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 10 20 30"


def in_units(folder: Path, suffix: str, unit: str) -> Path:
    """Write an image with steps of 2, 3 and 4 of a unit, the first voxel at (10, 20, 30) LPS."""
    path = folder / f"a{suffix}"
    if suffix == ".nrrd":
        units = f'space units: "{unit}" "{unit}" "{unit}"'
        header = NRRD.format(f"space: LPS\n{DIRECTIONS}\n{units}")
    else:
        header = MHA.format(f"{MATRIX}\nElementSpacing = 2 3 4\nDistanceUnits = {unit}")
        header += "ElementDataFile = LOCAL\n"
    path.write_bytes(header.encode() + bytes(8))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_units_become_millimetres(tmp_path: Path, suffix: str) -> None:
    for unit, scale in [("mm", 1), ("um", 1e-3), ("µm", 1e-3), ("cm", 10), ("m", 1000)]:
        affine = read_image(in_units(tmp_path, suffix, unit)).affine.numpy()
        expected = scale * np.array([-12, -23, 34])
        np.testing.assert_allclose((affine @ [1, 1, 1, 1])[:3], expected)
    with pytest.raises(GeometryError, match="lengths are in inch"):
        read_image(in_units(tmp_path, suffix, "inch"))


@pytest.mark.parametrize("has_origin", [True, False])
@pytest.mark.parametrize(
    ("name", "header", "origin"),
    [
        ("a.nrrd", NRRD, f"space: LPS\n{DIRECTIONS}"),
        ("a.mha", MHA, f"ElementSpacing = 2 3 4\n{MATRIX}"),
    ],
)
def test_an_origin_that_is_made_up_is_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    header: str,
    origin: str,
    has_origin: bool,
) -> None:
    fields = origin if has_origin else origin.rpartition("\n")[0]
    data = b"" if name == "a.nrrd" else b"ElementDataFile = LOCAL\n"
    (tmp_path / name).write_bytes(header.format(fields).encode() + data + bytes(8))
    with caplog.at_level(logging.WARNING):
        remarks = describe_image(tmp_path / name).remarks
    assert any("states no origin" in remark for remark in remarks) != has_origin
    assert (f"{name} states no origin" in caplog.text) != has_origin


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mha", MHA.format(MATRIX) + "ElementDataFile = LOCAL\n"),
        ("a.nrrd", NRRD.format("space: LPS")),
    ],
)
def test_voxels_of_unknown_size_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode() + bytes(8))
    for orientation in (None, "RAS"):
        with pytest.raises(GeometryError, match="size of its voxels is unknown"):
            read_image(tmp_path / name, orientation=orientation)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_damaged_files_are_one_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    whole = path.read_bytes()
    for content in (whole[:-2000], whole[:40], b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_images_keep_their_affine(tmp_path: Path, suffix: str) -> None:
    matrix = np.array([[1, 0, 0.3, 5], [0, 2, 0.1, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    path = tmp_path / f"a{suffix}"
    from volseg.io import as_image

    write_image(as_image(np.zeros((3, 4, 5), np.float32), matrix), path)
    np.testing.assert_allclose(read_image(path).affine, matrix, atol=1e-9)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_are_column_first(tmp_path: Path, mode: str, suffix: str) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    rows = rows[..., 0] if mode == "L" else rows
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rows).save(path)
    image = read_image(path)
    stored = np.atleast_3d(np.asarray(Image.open(path)))
    assert image.shape == (stored.shape[2], 7, 5)
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image.numpy().transpose(2, 1, 0), stored)
    np.testing.assert_array_equal(image.affine, np.eye(3))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_pictures_keep_all_bits(tmp_path: Path, suffix: str) -> None:
    for channels in (1, 3):
        rows = np.random.default_rng(0).integers(0, 65535, (5, 7, channels)).astype(np.uint16)
        path = tmp_path / f"a{channels}{suffix}"
        picture = sitk.GetImageFromArray(rows if channels > 1 else rows[..., 0], channels > 1)
        sitk.WriteImage(picture, str(path))
        image = read_image(path)
        assert image.dtype == torch.int32
        np.testing.assert_array_equal(image.numpy().transpose(2, 1, 0), rows)


def write_tiff(path: Path, kind: str, channels: int, layout: dict[str, Any]) -> np.ndarray:
    """Write a TIFF and return what a reader has to find, (channels, x, y)."""
    planes = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (channels, 19, 23))
    planes = planes.astype(kind)
    stored = planes if layout.get("planarconfig") == "separate" else planes.transpose(1, 2, 0)
    tifffile.imwrite(path, stored[..., 0] if channels == 1 else stored, **layout)
    return planes.transpose(0, 2, 1)


TILES = {"tile": (16, 16)}
PLANES = {"photometric": "rgb", "planarconfig": "separate"}


@pytest.mark.parametrize(
    ("kind", "channels", "layout"),
    [
        *(("uint8", count, TILES) for count in (1, 3)),
        ("uint8", 3, PLANES),
        ("uint16", 1, TILES),
        *((kind, 1, {"photometric": "miniswhite"}) for kind in ("uint8", "uint16")),
        ("int16", 1, {}),
        ("uint32", 1, {}),
    ],
)
def test_tiffs_give_what_is_stored(
    tmp_path: Path, kind: str, channels: int, layout: dict[str, Any]
) -> None:
    stored = write_tiff(tmp_path / "a.tif", kind, channels, layout)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").numpy(), stored)


@pytest.mark.parametrize(
    ("kind", "channels", "layout"),
    [
        ("uint16", 3, TILES),
        ("uint16", 3, PLANES),
        ("int8", 1, {}),
        ("uint8", 4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    ],
)
def test_tiffs_that_would_become_something_else_are_refused(
    tmp_path: Path, kind: str, channels: int, layout: dict[str, Any]
) -> None:
    write_tiff(tmp_path / "a.tif", kind, channels, layout)
    with pytest.raises(InputError, match=f"pixels of {channels} x .* would become"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_pictures_that_are_to_be_turned_are_refused(tmp_path: Path, suffix: str) -> None:
    for kind, orientation in itertools.product((np.uint8, np.uint16), (1, 3, 6)):
        if kind == np.uint16 and suffix == ".jpg":
            continue
        path = tmp_path / f"a{suffix}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.arange(12, dtype=kind).reshape(3, 4)).save(path, exif=exif)
        if orientation == 1:
            assert read_image(path).shape == (1, 4, 3)
            continue
        with pytest.raises(InputError, match=f"orientation {orientation}"):
            read_image(path)


def test_palette_pictures_keep_their_numbers(tmp_path: Path) -> None:
    for suffix in (".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        picture.save(path)
        assert picture.mode == "P"
        np.testing.assert_array_equal(read_image(path)[0].numpy().T, [[0, 1], [2, 1]])


def test_unusable_pictures_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 1)]
    frames[0].save(tmp_path / "many.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="holds 2 pictures"):
        read_image(tmp_path / "many.tif")
    for name in ("a.png", "a.tif", "a.jpg"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(InputError, match="damaged or not a"):
            read_image(tmp_path / name)
    rows = np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8)
    Image.fromarray(rows).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "cut.png")
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
    with pytest.raises(InputError, match="CMYK"):
        read_image(tmp_path / "cmyk.jpg")


def test_two_dimensional_nrrd(tmp_path: Path) -> None:
    picture = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    picture.SetSpacing((0.5, 2.0))
    sitk.WriteImage(picture, str(tmp_path / "a.mha"))
    image = read_image(tmp_path / "a.mha")
    assert image.shape == (1, 3, 2)
    assert Affine(image.affine.numpy()).spacing == (0.5, 2.0)
