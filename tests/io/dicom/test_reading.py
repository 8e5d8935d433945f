"""DICOM series: every real folder is read as its tags say, or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg.errors import GeometryError, InputError, MissingPackageError
from volseg.geometry import Affine
from volseg.io import grid_of, read_image
from volseg.io.dicom import open_series

READ = [
    "bad_gantry_tilt",
    "classic_mr_philips",
    "ct_j2k_20slices",
    "ct_oblique_anisotropic",
    "enhanced_mr_philips",
    "mr_4d_ge",
    "mr_hippocrop_a",
    "mr_oblique_hitachi",
    "mr_rgb",
    "mr_sagittal_jpegls",
    "mr_sagittal_raw",
    "mr_sagittal_rle",
]
UNEVEN = {
    "bad_slice_increment": r"28\.107 to 38\.107",
    "ct_gantry_tilt_varspacing": "1.081 to 6.999",
}


@pytest.mark.data
def test_every_series_is_accounted_for(data_root: Path) -> None:
    folders = {path.name for path in (data_root / "dicom_series").iterdir() if path.is_dir()}
    assert folders == {*READ, *UNEVEN}


@pytest.mark.data
@pytest.mark.parametrize("case", READ)
def test_geometry_and_voxels_are_those_of_the_references(data_root: Path, case: str) -> None:
    folder = data_root / "dicom_series" / case
    reference = json.loads((folder / "reference.json").read_text())
    # The enhanced file holds the same acquisition as its twin, whose tags are the reference.
    twin = data_root / "dicom_series" / "classic_mr_philips" / "reference.json"
    tags = reference.get("from_tags") or json.loads(twin.read_text())["from_tags"]
    image = read_image(folder / "dicom")
    expected = Affine(tags["affine_ras"])
    assert grid_of(image).affine.is_close(expected, 5e-3, image.shape[1:])
    np.testing.assert_allclose(image.affine.numpy(), expected.matrix, atol=1e-3)
    assert image.shape[1:] == (tags["cols"], tags["rows"], tags["n_positions"])
    assert image.shape[0] == (3 if case == "mr_rgb" else tags["repeats"])

    dcm2niix = reference["dcm2niix_canonical_ras"]
    values = image.numpy()[0] if len(image) == 1 else np.moveaxis(image.numpy(), 0, -1)
    nifti = nib.as_closest_canonical(
        nib.Nifti1Image(values, image.affine.numpy(), dtype=values.dtype)
    )
    assert nifti.shape[:3] == tuple(dcm2niix["shape"][:3])
    if case != "bad_gantry_tilt":  # of which dcm2niix gives an affine without the tilt
        np.testing.assert_allclose(nifti.affine, dcm2niix["affine"], atol=2e-3)
    values = np.asarray(nifti.dataobj)
    assert values.min() == pytest.approx(dcm2niix["min"], rel=1e-5)
    assert values.max() == pytest.approx(dcm2niix["max"], rel=1e-5)
    assert values.mean(dtype=np.float64) == pytest.approx(dcm2niix["mean"], rel=1e-4)
    if "sha256_int32_le_c_order" in dcm2niix:
        content = np.ascontiguousarray(values.astype("<i4")).tobytes()
        assert hashlib.sha256(content).hexdigest() == dcm2niix["sha256_int32_le_c_order"]


@pytest.mark.data
@pytest.mark.parametrize("case", ["classic_mr_philips", "enhanced_mr_philips"])
def test_single_and_multi_frame_twins_have_the_same_voxels(data_root: Path, case: str) -> None:
    image = read_image(data_root / "dicom_series" / case / "dicom")
    twin = nib.load(data_root / "dicom_series/enhanced_mr_philips/dcm2niix.nii.gz")
    ours = nib.as_closest_canonical(nib.Nifti1Image(image[0].numpy(), image.affine.numpy()))
    theirs = nib.as_closest_canonical(twin)
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), atol=1e-3)


@pytest.mark.data
def test_tilted_series_keep_their_slant(data_root: Path) -> None:
    folder = data_root / "dicom_series" / "bad_gantry_tilt"
    sheared = grid_of(read_image(folder / "dicom"))
    assert np.rad2deg(sheared.affine.shear) == pytest.approx(14.0, abs=0.01)
    upright = grid_of(read_image(folder / "dicom", orthogonal=True))
    assert upright.affine.is_orthogonal()
    assert upright.spacing[2] == pytest.approx(4.8513, abs=1e-3)


@pytest.mark.data
@pytest.mark.parametrize("case", UNEVEN)
def test_uneven_series_are_refused_unless_the_caller_chooses(data_root: Path, case: str) -> None:
    folder = data_root / "dicom_series" / case / "dicom"
    with pytest.raises(GeometryError, match=UNEVEN[case]) as caught:
        read_image(folder)
    assert "\n" not in str(caught.value)
    opened = open_series(folder, irregular=True)
    heights = opened.stack.heights
    image = read_image(folder, irregular="resample")
    # The first and the last slice are where they were.
    ends = grid_of(image).affine.apply([[0, 0, 0], [0, 0, image.shape[3] - 1]])
    expected = [frame.position for frame in (opened.frames[0][0], opened.frames[0][-1])]
    np.testing.assert_allclose(ends * [-1, -1, 1], expected, atol=1e-3)
    assert image.shape[3] == 1 + round((heights[-1] - heights[0]) / np.diff(heights)[0])


@pytest.fixture
def series(data_root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    shutil.copytree(data_root / "dicom_series/mr_sagittal_raw/dicom", folder)
    return folder


def edit(path: Path, **tags: object) -> None:
    import pydicom

    path.chmod(0o644)
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


@pytest.mark.data
def test_nesting_names_and_junk_do_not_matter(series: Path) -> None:
    before = read_image(series)
    files = sorted(series.iterdir())
    series.chmod(0o755)
    (series / "deep").mkdir()
    for number, path in enumerate(files):
        path.rename(series / "deep" / f"{(7 * number) % 5}")
    (series / "notes.txt").write_text("hello")
    (series / "junk").write_bytes(b"\x02\x00junk")
    after = read_image(series)
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    np.testing.assert_array_equal(before.affine, after.affine)


@pytest.mark.data
@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImagePositionPatient": None}, "no ImagePositionPatient of 3"),
        ({"ImageOrientationPatient": None}, "no ImageOrientationPatient of 6"),
        ({"PixelSpacing": None}, "no PixelSpacing of 2"),
        ({"SeriesInstanceUID": "1.2.3"}, "holds 2 DICOM series"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "differ in ImageOrientationPatient"),
        ({"FrameOfReferenceUID": "1.2.3"}, "differ in FrameOfReferenceUID"),
        ({"Rows": 128}, "differ in Rows"),
        ({"PixelSpacing": [2, 2]}, "differ in PixelSpacing"),
    ],
)
def test_one_odd_slice_is_refused(series: Path, tags: dict, words: str) -> None:
    edit(sorted(series.iterdir())[1], **tags)
    with pytest.raises(InputError, match=words) as caught:
        read_image(series)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_missing_and_single_slices_are_refused(series: Path) -> None:
    series.chmod(0o755)
    files = sorted(series.iterdir())
    image = read_image(series)
    third = image.meta["affine"][:3, 2]
    assert float(third.norm()) == pytest.approx(1.0, abs=1e-4)
    import pydicom

    inner = sorted(files, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[0])[1]
    inner.unlink()
    with pytest.raises(GeometryError, match="equal gaps"):
        read_image(series)
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    with pytest.raises(GeometryError, match="single slice"):
        read_image(series)


@pytest.mark.data
def test_cut_pixels_are_refused(series: Path) -> None:
    path = sorted(series.iterdir())[2]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="cut short"):
        read_image(series)


@pytest.mark.data
def test_folders_of_several_series_list_them(data_root: Path) -> None:
    with pytest.raises(InputError, match=r"13 DICOM series.*'Cervical LAT'.*series="):
        read_image(data_root / "dicom_misc/patients")


@pytest.mark.data
def test_without_pydicom_the_package_is_named(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackageError, match=r"volseg\[dicom\]"):
        read_image(series)
