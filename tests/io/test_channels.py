"""Several files as the channels of one image: their order, their grid, whole and in parts."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from volseg.errors import GeometryError, InputError, ShapeError, UnknownNameError
from volseg.geometry import Affine, Grid
from volseg.io import (
    ReadImaged,
    as_image,
    grid_of,
    in_channel_order,
    labelled_blocks,
    open_volume,
    read_image,
    write_image,
)
from volseg.io.resampling import resampled

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1.25, 0, 7], [0, 0, 0, 1]])
SHAPE = (8, 9, 10)


def saved(path: Path, affine: np.ndarray = AFFINE, shape: tuple[int, ...] = SHAPE) -> Path:
    values = np.random.default_rng(len(path.name)).normal(100, 20, shape).astype(np.float32)
    write_image(as_image(values, affine), path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Path]:
    return {"t1": saved(tmp_path / "t1.nii.gz"), "flair": saved(tmp_path / "flair.nrrd")}


def in_parts(image: object, **reading: object) -> np.ndarray:
    with open_volume(image, **reading) as volume:
        values = np.full((volume.channels, *volume.grid.shape), np.nan, np.float32)
        for block in volume.blocks(100):
            assert block.values.dtype == np.float32
            values[block.place] = block.values
    return values


def turned(image: torch.Tensor, path: Path) -> Path:
    """Write the voxels of an image with their axes in another order and direction."""
    order = nib.orientations.axcodes2ornt("SPL")
    stored = nib.Nifti1Image(image.numpy()[0], image.affine.numpy())
    start = nib.orientations.io_orientation(stored.affine)
    nib.save(stored.as_reoriented(nib.orientations.ornt_transform(start, order)), path)
    return path


def test_files_become_channels_in_their_order(pair: dict[str, Path]) -> None:
    for names in (["t1", "flair"], ["flair", "t1"]):
        given = {name: pair[name] for name in names}
        image = read_image(given)
        for found, name in zip(image.numpy(), names, strict=True):
            np.testing.assert_array_equal(found, read_image(pair[name]).numpy()[0])
        assert image.meta["filename_or_obj"] == str(pair[names[0]])
        np.testing.assert_array_equal(in_parts(given), image.numpy())
        with open_volume(given) as volume:
            assert volume.grid == grid_of(image)
            assert (volume.source, volume.in_memory) == (str(pair[names[0]]), False)
            assert volume.meta == open_volume(pair[names[0]]).meta


def test_types_are_joined_exactly(tmp_path: Path) -> None:
    """16 bits, 32 bits and fractions in one image: nothing is rounded before float32 is."""
    files = {}
    for name, kind in (("a", np.int16), ("b", np.int32), ("c", np.float32)):
        values = np.arange(720).reshape(SHAPE) * (1 if kind is np.int16 else 40000)
        write_image(as_image(values.astype(kind), AFFINE), tmp_path / f"{name}.nii")
        files[name] = tmp_path / f"{name}.nii"
    image = read_image(files)
    for found, path in zip(image.numpy(), files.values(), strict=True):
        np.testing.assert_array_equal(found, read_image(path).numpy()[0])
    np.testing.assert_array_equal(in_parts(files), image.numpy().astype(np.float32))


def test_two_walks_do_not_disturb_each_other(pair: dict[str, Path]) -> None:
    with open_volume(pair) as volume:
        first, second = volume.blocks(90), volume.blocks(90)
        next(first), next(second)
        rest = [block.values.sum() for block in first]
        assert [block.values.sum() for block in second] == rest


def test_axes_in_another_order_are_turned_and_nothing_is_resampled(
    pair: dict[str, Path], tmp_path: Path
) -> None:
    other = turned(read_image(pair["flair"]), tmp_path / "turned.nii.gz")
    assert read_image(other).shape != read_image(pair["flair"]).shape
    given = {"t1": pair["t1"], "flair": other}
    expected = read_image(pair).numpy()
    np.testing.assert_array_equal(read_image(given).numpy(), expected)
    np.testing.assert_array_equal(in_parts(given), expected)


def test_another_grid_is_refused_with_the_distance(pair: dict[str, Path], tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 3.25
    for shape, affine, words in (
        (SHAPE, moved, r"t1 \(.*t1\.nii\.gz\) and flair .* up to 3\.25 mm apart.*--onto-first"),
        ((8, 9, 11), AFFINE, "same spatial shape.*--onto-first"),
    ):
        other = saved(tmp_path / "other.nii.gz", affine, shape)
        for reading in (read_image, open_volume):
            with pytest.raises(GeometryError, match=words):
                reading({"t1": pair["t1"], "flair": other})
    slightly = AFFINE.copy()
    slightly[0, 3] += 0.01  # below a hundredth of the smallest spacing
    other = saved(tmp_path / "slightly.nii.gz", slightly)
    assert grid_of(read_image({"t1": pair["t1"], "flair": other})) == Grid(SHAPE, Affine(AFFINE))
    flat = tmp_path / "flat.png"
    write_image(as_image(np.zeros((6, 7), np.uint8), np.eye(3)), flat)
    with pytest.raises(GeometryError, match="as many axes"):
        read_image({"t1": pair["t1"], "flair": flat}, onto_first=True)


def oblique(degrees: float, spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.vstack([turn, [0, 0, 1]]) * spacing
    matrix[:3, 3] = origin
    return matrix


def test_resampling_onto_the_first_is_simple_itk_s(tmp_path: Path) -> None:
    """An independent resampler agrees on an oblique stack of thick slices, inside and outside."""
    source = oblique(25, (0.9, 1.1, 4.0), (-8, -12, -6.1))
    values = np.random.default_rng(1).normal(100, 20, (24, 26, 5)).astype(np.float32)
    target = Grid((21, 22, 23), Affine(oblique(-10, (1.0, 1.0, 1.0), (-6, -7, -10))))
    found, covered = resampled(values[None], Grid(values.shape, Affine(source)), target)

    moving = sitk.GetImageFromArray(values.transpose())
    reference = sitk.GetImageFromArray(np.zeros(target.shape, np.float32).transpose())
    for image, affine in ((moving, Affine(source)), (reference, target.affine)):
        lps = affine.to_lps()
        image.SetSpacing(affine.spacing)
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / affine.spacing).ravel().tolist())
    outside = float(values.min())
    expected = sitk.Resample(moving, reference, sitk.Transform(), sitk.sitkLinear, outside)
    there = sitk.GetArrayFromImage(expected).transpose()
    np.testing.assert_allclose(found[0], there, atol=0.01)
    assert 0.2 < covered < 0.95
    assert (found[0] == outside).mean() == pytest.approx(1 - covered, abs=0.001)


def test_resampling_is_done_when_asked_for_and_says_what_it_does_not_cover(
    pair: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = saved(tmp_path / "other.nii.gz", AFFINE @ np.diag([2, 2, 0.5, 1]), (4, 5, 10))
    given = {"t1": pair["t1"], "flair": other}
    with caplog.at_level(logging.WARNING):
        image = read_image(given, onto_first=True)
    assert "covers 50.0 %" in caplog.text
    np.testing.assert_array_equal(image.numpy()[0], read_image(pair["t1"]).numpy()[0])
    np.testing.assert_array_equal(in_parts(given, onto_first=True), image.numpy())
    assert image.numpy()[1, 0, 0, 0] == read_image(other).numpy()[0, 0, 0, 0]
    away = AFFINE.copy()
    away[2, 3] += 500
    given["flair"] = saved(tmp_path / "away.nii.gz", away)
    with pytest.raises(GeometryError, match="do not overlap"):
        read_image(given, onto_first=True)


def test_a_channel_is_one_image(pair: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "both.nii.gz"
    write_image(read_image(pair), both)
    for reading in (read_image, open_volume):
        with pytest.raises(ShapeError, match=r"both\.nii\.gz has 2 channels.*channel flair alone"):
            reading({"t1": pair["t1"], "flair": both})
        with pytest.raises(InputError, match="at least one"):
            reading({})


def test_options_for_channels_go_to_them(pair: dict[str, Path]) -> None:
    with pytest.raises(UnknownNameError, match="channel in series 't2'"):
        read_image(pair, series={"t2": "1.2"})
    with pytest.raises(InputError, match=r"flair\.nrrd with series: the image is no DICOM"):
        read_image(pair, series={"FLAIR": "1.2"})
    for reading in (read_image, open_volume):
        with pytest.raises(InputError, match="onto_first for channels: it is one image"):
            reading(pair["t1"], onto_first=True)
        with pytest.raises(InputError, match="series for channels: it is one image"):
            reading(pair["t1"], series={"t1": "1.2"})


def test_the_order_is_that_of_the_names() -> None:
    names = ("t1", "T2w", "flair")
    given = {"FLAIR": 3, "t2W": 2, "T1": 1}
    assert list(in_channel_order(given, names, "it").items()) == [
        ("t1", 1),
        ("T2w", 2),
        ("flair", 3),
    ]
    with pytest.raises(UnknownNameError, match="channel of it 'flare': did you mean 'flair'"):
        in_channel_order({"flare": 1}, names, "it")
    with pytest.raises(InputError, match="but t1, T2w are missing"):
        in_channel_order({"flair": 1}, names, "it")
    with pytest.raises(InputError, match="flair of it is given twice"):
        in_channel_order({"flair": 1, "Flair": 2}, names, "it")


def test_dictionaries_of_a_bundle_name_channels(pair: dict[str, Path]) -> None:
    read = ReadImaged("image", channels=["flair", "t1"], dtype="float32")
    expected = read_image({name: pair[name] for name in ("flair", "t1")})
    np.testing.assert_array_equal(read({"image": pair})["image"].numpy(), expected.numpy())
    images = {name: as_image(read_image(path).numpy(), AFFINE) for name, path in pair.items()}
    np.testing.assert_array_equal(read({"image": images})["image"].numpy(), expected.numpy())
    assert read({"image": images})["image"].meta["filename_or_obj"] == ""
    images["flair"] = as_image(images["flair"].numpy()[:, 1:], AFFINE)
    with pytest.raises(GeometryError, match="the channels flair and t1 must have"):
        read({"image": images})
    with pytest.raises(InputError, match="t1 is missing"):
        read({"image": {"flair": pair["flair"]}})
    one_file = {"image": pair["t1"]}
    assert read(one_file)["image"].shape == (1, *SHAPE)


def test_channels_in_memory_are_joined_as_files_are(pair: dict[str, Path], tmp_path: Path) -> None:
    other = saved(tmp_path / "other.nii.gz", AFFINE @ np.diag([2, 2, 0.5, 1]), (4, 5, 10))
    given = {"t1": pair["t1"], "flair": other}
    expected = read_image(given, onto_first=True).numpy()
    read = ReadImaged("image", onto_first=True)
    for in_memory in ([], ["t1"], ["t1", "flair"]):
        image = {**given, **{name: read_image(given[name]) for name in in_memory}}
        np.testing.assert_array_equal(read({"image": image})["image"].numpy(), expected)


def test_a_file_beside_a_channel_in_memory_is_read_as_was_asked_for(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), None), tmp_path / "flair.nii")
    channels = {"t1": as_image(np.zeros(SHAPE, np.float32), np.eye(4))}
    channels["flair"] = tmp_path / "flair.nii"
    image = ReadImaged("image", orientation="RAS")({"image": channels})["image"]
    assert image.shape == (2, *SHAPE)
    np.testing.assert_array_equal(image.affine, np.eye(4))


@pytest.mark.data
def test_a_dicom_series_and_its_nifti_lie_on_one_grid(data_root: Path) -> None:
    """dcm2niix turns axes round; the voxels are the same."""
    folder = data_root / "dicom_series" / "mr_hippocrop_a"
    given = {"dicom": folder / "dicom", "nifti": folder / "dcm2niix.nii.gz"}
    image = read_image(given)
    np.testing.assert_array_equal(image.numpy()[0], image.numpy()[1])
    np.testing.assert_array_equal(in_parts(given), image.numpy().astype(np.float32))


def test_labels_go_along_with_channels_of_any_kind_of_file(
    pair: dict[str, Path], tmp_path: Path
) -> None:
    """Files are cut along their last axis, arrays along their first: all meet the labels."""
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    write_image(as_image(labels, AFFINE), tmp_path / "labels.nii.gz")
    other = turned(read_image(pair["flair"]), tmp_path / "turned.nii.gz")
    for given in (
        pair,
        {"t1": pair["flair"], "flair": pair["t1"]},
        {"t1": pair["t1"], "flair": other},
        {"t1": pair["flair"], "flair": other},
    ):
        seen = np.zeros((2, *SHAPE), int)
        with open_volume(given) as volume, open_volume(tmp_path / "labels.nii.gz") as stored:
            for block, part in labelled_blocks(volume, stored, 100):
                np.testing.assert_array_equal(part, labels[block.place[1:]])
                seen[block.place] += 1
        assert (seen == 1).all()
