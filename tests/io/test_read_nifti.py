"""NIfTI reading: real odd files against nibabel, and headers made damaged on purpose."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import list_data_collate

from volseg.errors import GeometryError, InputError
from volseg.geometry import reorientation
from volseg.io import grid_of, read_image

READ = [
    *(f"dtypes/{kind}{bits}.nii" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "dtypes/float32.nii",
    "dtypes/float64.nii",
    "extension_4d_singleton.nii.gz",
    "float32_bigendian_qform_only.nii.gz",
    "float64_2d_extended_header.nii",
    "fmri_oblique.nii.gz",
    "int16_4d_20vols.nii",
    "int16_bigendian_las.nii",
    "nifti1_4d_oblique.nii.gz",
    "nifti2_4d_oblique.nii.gz",
    *(f"orientations/{c}.nii.gz" for c in ["AIL", "IRP", "LAS", "LPS", "PSR", "RAS", "RSA", "SAL"]),
    "pair_ras.hdr",
    "pair_ras.img",
    "tiny_7x5x3.nii.gz",
    "uint8_5d_sform_oblique.nii",
    "uint8_anisotropic.nii.gz",
]
REFUSED = {
    "complex64_2d.nii": (InputError, "magnitude"),
    "corrupt_1.nii": (InputError, "does not begin with a NIfTI header"),
    "not_nifti.nii": (InputError, "does not begin with a NIfTI header"),
    "minimal_bigendian_nocodes.nii.gz": (GeometryError, "sform and qform codes are 0 and 0"),
    "pair_minimal.hdr": (GeometryError, "sform and qform codes are 0 and 0"),
    "pair_minimal.img": (GeometryError, "sform and qform codes are 0 and 0"),
    "rgb24_4d.nii": (InputError, "more than one axis beyond"),
}


@pytest.mark.data
def test_every_odd_file_is_accounted_for(data_root: Path) -> None:
    odd = data_root / "nifti_odd"
    found = {
        str(path.relative_to(odd))
        for path in odd.rglob("*")
        if path.name.endswith((".nii", ".nii.gz", ".hdr", ".img"))
    }
    assert found == {*READ, *REFUSED, "rgb24_3d.nii"}


@pytest.mark.data
@pytest.mark.parametrize("name", READ)
def test_world_and_values_are_those_of_nibabel(data_root: Path, name: str) -> None:
    path = data_root / "nifti_odd" / name
    reference = nib.load(path)
    image = read_image(path)
    # Space first, then all else as channels.
    expected = reference.get_fdata()
    space = (*expected.shape, 1, 1)[:3]
    expected = np.moveaxis(expected.reshape((*space, -1), order="F"), -1, 0)
    assert image.shape == expected.shape
    tolerance = {} if image.dtype != torch.float32 else {"rtol": 1e-6}
    np.testing.assert_allclose(image.numpy().astype(np.float64), expected, **tolerance)
    np.testing.assert_allclose(image.affine.numpy(), reference.affine, atol=1e-5)
    assert image.affine.dtype == torch.float64
    assert tuple(image.meta["spatial_shape"]) == space
    assert image.meta["filename_or_obj"] == str(path)
    assert image.meta["space"] == "RAS"
    assert torch.equal(image.meta["original_affine"], image.affine)


@pytest.mark.data
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_sentence(data_root: Path, name: str) -> None:
    kind, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        read_image(data_root / "nifti_odd" / name)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.data
def test_rgb_becomes_channels(data_root: Path) -> None:
    path = data_root / "nifti_odd/rgb24_3d.nii"
    image = read_image(path)
    stored = np.asarray(nib.load(path).dataobj)
    assert image.dtype == torch.uint8
    for channel, name in enumerate("RGB"):
        np.testing.assert_array_equal(image[channel].numpy(), stored[name])


@pytest.mark.data
def test_orientations_are_one_brain(data_root: Path) -> None:
    folder = data_root / "nifti_odd/orientations"
    reference = read_image(folder / "RAS.nii.gz")
    for path in sorted(folder.iterdir()):
        image = read_image(path)
        grid = grid_of(image)
        assert "".join(grid.affine.orientation) == path.name[:3]
        change = reorientation(grid.affine, "RAS")
        np.testing.assert_array_equal(change.apply(image.numpy()), reference.numpy())
        placed = change.apply_to_affine(grid.affine, grid.shape)
        assert placed.is_close(grid_of(reference).affine, 1e-3, reference.shape[1:])


@pytest.mark.data
def test_stated_orientation_places_a_file_without_codes(data_root: Path) -> None:
    path = data_root / "nifti_odd/minimal_bigendian_nocodes.nii.gz"
    with pytest.raises(GeometryError, match="volseg convert IN OUT --orientation RAS"):
        read_image(path)
    image = read_image(path, orientation="LPS")
    np.testing.assert_array_equal(image.affine.numpy(), np.diag([-3, -3, 3, 1]))
    with pytest.raises(GeometryError, match="axis codes"):
        read_image(path, orientation="LLS")


@pytest.mark.data
def test_stated_orientation_never_overrules_the_file(
    data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        image = read_image(data_root / "nifti_odd/orientations/LAS.nii.gz", orientation="RAS")
    assert grid_of(image).affine.orientation == ("L", "A", "S")
    assert "is not used" in caplog.text


def saved(path: Path, data: np.ndarray | None = None, **fields: object) -> Path:
    """Write a NIfTI file with header fields changed after nibabel filled them in."""
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4) if data is None else data
    image = nib.Nifti1Image(data, None, dtype=data.dtype)
    header = image.header
    header.set_sform(np.diag([2.0, 3, 4, 1]), code=1)
    header.set_qform(np.diag([2.0, 3, 4, 1]), code=1)
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    changed = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        changed[name] = value
    content[:348] = changed.binaryblock
    path.write_bytes(content)
    return path


def test_sform_comes_first_and_disagreement_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "a.nii", srow_x=[2, 0, 0, 5])
    with caplog.at_level(logging.WARNING):
        image = read_image(path)
    assert image.affine[0, 3] == 5
    assert "disagree by up to 5 mm" in caplog.text


def test_qform_counts_when_the_sform_code_is_zero(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", sform_code=0, srow_x=[9, 9, 9, 9])
    np.testing.assert_array_equal(read_image(path).affine, np.diag([2.0, 3, 4, 1]))


def test_negative_qfac_mirrors_the_third_axis_and_zero_means_one(tmp_path: Path) -> None:
    for qfac, third in ((-1, -4), (0, 4), (1, 4)):
        path = saved(tmp_path / "a.nii", sform_code=0, pixdim=[qfac, 2, 3, 4, 0, 0, 0, 0])
        assert read_image(path).affine[2, 2] == third


@pytest.mark.parametrize(("unit", "scale"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units_become_millimetres(tmp_path: Path, unit: int, scale: float) -> None:
    expected = np.diag([2 * scale, 3 * scale, 4 * scale, 1])
    for code in (0, 1):
        path = saved(tmp_path / "a.nii", xyzt_units=unit + 8, sform_code=code)
        np.testing.assert_allclose(read_image(path).affine, expected)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"srow_x": [np.nan, 0, 0, 0]}, "finite"),
        ({"srow_x": [0, 0, 0, 0]}, "invertible"),
        ({"sform_code": 0, "pixdim": [1, 0, 3, 4, 0, 0, 0, 0]}, "pixdim"),
        ({"sform_code": 0, "pixdim": [1, 2, -3, 4, 0, 0, 0, 0]}, "pixdim"),
        ({"sform_code": 0, "quatern_b": 2.0}, "quaternion"),
        ({"sform_code": 0, "quatern_c": np.nan}, "quaternion"),
        ({"xyzt_units": 7}, "unknown code 7"),
        ({"sform_code": 0, "qform_code": 0}, "codes are 0 and 0"),
        ({"sform_code": -1, "qform_code": 0}, "codes are -1 and 0"),
    ],
)
def test_damaged_geometry_is_refused(tmp_path: Path, fields: dict, words: str) -> None:
    with pytest.raises(GeometryError, match=words) as caught:
        read_image(saved(tmp_path / "a.nii", **fields))
    assert "a.nii" in str(caught.value)


def test_a_damaged_spare_qform_does_not_spoil_the_sform(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.nii", quatern_b=2.0))
    np.testing.assert_array_equal(image.affine, np.diag([2.0, 3, 4, 1]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"datatype": 999}, "damaged"),
        ({"dim": [9, 2, 3, 4, 1, 1, 1, 1]}, "9 axes"),
        ({"dim": [3, 2, 0, 4, 1, 1, 1, 1]}, "no voxels"),
        ({"dim": [3, 2, -3, 4, 1, 1, 1, 1]}, "no voxels"),
        ({"dim": [3, 2, 3, 5, 1, 1, 1, 1]}, "cut short"),
        ({"dim": [3, 32000, 32000, 32000, 1, 1, 1, 1]}, "cut short"),
        ({"magic": b"abc"}, "not marked as NIfTI"),
        ({"magic": b"ni1"}, "marked 'ni1', as that of a pair"),
        ({"vox_offset": 240}, "begin at byte 240"),
        ({"vox_offset": -352}, "begin at byte -352"),
        ({"vox_offset": np.nan}, "begin at byte nan"),
        ({"scl_slope": 2.0, "scl_inter": np.inf}, "damaged"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, fields: dict, words: str) -> None:
    path = saved(tmp_path / "a.nii", **fields)
    with pytest.raises(InputError, match=words) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_single_file_without_offset_begins_after_its_header(tmp_path: Path, kind: Any) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    kind(values, np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    place = slice(108, 112) if kind is nib.Nifti1Image else slice(168, 176)
    content[place] = bytes(place.stop - place.start)
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii")[0].numpy(), values)


def test_a_pair_marked_as_a_single_file_is_refused(tmp_path: Path) -> None:
    nib.Nifti1Pair(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_filename(tmp_path / "a.img")
    header = (tmp_path / "a.hdr").read_bytes()
    (tmp_path / "a.hdr").write_bytes(header.replace(b"ni1", b"n+1"))
    with pytest.raises(InputError, match=r"marked 'n\+1', as that of a single file"):
        read_image(tmp_path / "a.hdr")


def test_cut_and_misnamed_files_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (9, 9, 9), np.int16))
    packed = gzip.compress(whole.read_bytes())
    for name, content, words in [
        ("cut.nii", whole.read_bytes()[:-1], "cut short"),
        ("header.nii", whole.read_bytes()[:200], "does not begin"),
        ("cut.nii.gz", packed[: len(packed) // 2], "gzip"),
        ("short.nii.gz", gzip.compress(whole.read_bytes()[:-100]), "1810 .* 1710"),
        ("flipped.nii.gz", packed[:-6] + b"xxxxxx", "gzip|damaged"),
        ("hidden.nii", packed, r"rename it to end in \.nii\.gz"),
        ("plain.nii.gz", whole.read_bytes(), r"rename it to end in \.nii"),
        ("empty.nii.gz", b"", "empty"),
        ("alone.hdr", whole.read_bytes()[:348], "alone.img, is missing"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_scaling_follows_nibabel(tmp_path: Path) -> None:
    for slope, inter in [(0.5, 3), (1, 0), (0, 7), (np.nan, np.nan), (2, 0), (-1, 10)]:
        path = saved(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter)
        image = read_image(path)
        np.testing.assert_array_equal(image[0].numpy(), nib.load(path).get_fdata())
        plain = slope in (1, 0) or np.isnan(slope)
        assert image.dtype == (torch.int16 if plain else torch.float32)
    wide = saved(tmp_path / "b.nii", np.full((2, 2, 2), 16777217, np.int32), scl_slope=0.5)
    assert read_image(wide).dtype == torch.float64


def test_uint64_past_int64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="18446744073709551615"):
        read_image(saved(tmp_path / "a.nii", np.full((2, 2, 2), 2**64 - 1, np.uint64)))


def test_vector_images_and_more_axes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 3, 4, 1, 3)).astype(np.float32)
    image = read_image(saved(tmp_path / "a.nii", vectors))
    np.testing.assert_array_equal(image.numpy(), np.moveaxis(vectors[:, :, :, 0], -1, 0))
    with pytest.raises(InputError, match="more than one axis beyond"):
        read_image(saved(tmp_path / "b.nii", np.zeros((2, 3, 4, 2, 3), np.float32)))


def test_meta_can_be_collated(tmp_path: Path) -> None:
    images = [{"image": read_image(saved(tmp_path / f"{name}.nii"))} for name in "ab"]
    batch = list_data_collate(images)["image"]
    assert batch.shape == (2, 1, 2, 3, 4)
    assert batch.meta["filename_or_obj"] == [str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "a.nii")
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(InputError, match=r"'\.xyz' is not known"):
        read_image(tmp_path / "a.xyz")
    with pytest.raises(InputError, match="no DICOM image"):
        read_image(tmp_path)
    (tmp_path / "a.dcm").write_text("x")
    with pytest.raises(InputError, match="give the folder"):
        read_image(tmp_path / "a.dcm")
