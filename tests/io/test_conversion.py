"""Files in one format become files in another: values, places and names stay."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine, Grid
from volseg.io import as_image, convert_file, grid_of, read_image, write_image
from volseg.io.dicom import DicomOptions
from volseg.io.dicom.segmentations import (
    Code,
    Segment,
    SourceSlices,
    read_segmentation,
    write_dicom_seg,
    write_rtstruct,
)

MakeSource = Callable[..., tuple[Path, SourceSlices]]
Tool = Callable[..., str]
SEGMENTS = (
    Segment(1, "liver", type=Code("10200004", "SCT", "Liver")),
    Segment(2, "lesion"),
    Segment(3, "spleen"),
)
OBLIQUE = [[0.92, -0.35, 0.16], [0.32, 0.93, 0.2], [-0.22, -0.13, 0.96]]
TURNS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ["dicom-seg", "dicom-labelmap", "rtstruct"])
def test_there_and_back(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, kind: str, suffix: str
) -> None:
    # Tilted series have no place in NRRD and MetaImage, whose axes are at right angles.
    folder, source = make_source(direction=OBLIQUE, tilt=8 if suffix == ".nii.gz" else 0)
    dicom, plain = tmp_path / "labels.dcm", tmp_path / f"back{suffix}"
    write = write_rtstruct if kind == "rtstruct" else write_dicom_seg
    write(labels, tmp_path / "first.dcm", source=source, segments=SEGMENTS)
    done = convert_file(tmp_path / "first.dcm", plain, source=folder)
    assert done.segments == SEGMENTS or kind == "rtstruct"
    back = read_image(plain)
    np.testing.assert_array_equal(back.numpy()[0], labels)
    assert grid_of(back).affine.is_close(source.grid.affine, 1e-3, labels.shape)
    convert_file(plain, dicom, kind=kind, source=folder, segments=SEGMENTS)
    stored = read_segmentation(dicom, source=source.grid)
    np.testing.assert_array_equal(stored.image.values[0], labels)
    assert [one.name for one in stored.segments] == ["liver", "lesion", "spleen"]
    assert stored.segments[0].type == SEGMENTS[0].type


def test_names_go_from_seg_to_rtstruct(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    folder, source = make_source()
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, segments=SEGMENTS)
    convert_file(tmp_path / "seg.dcm", tmp_path / "rt.dcm", kind="rtstruct", source=folder)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    assert [item.ROIName for item in dataset.StructureSetROISequence] == [
        "liver",
        "lesion",
        "spleen",
    ]
    code = dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert (code.CodeValue, code.CodeMeaning) == ("10200004", "Liver")


@pytest.mark.parametrize(("order", "flips"), TURNS)
def test_label_maps_with_turned_axes_find_their_series(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    order: tuple[int, ...],
    flips: tuple[int, ...],
) -> None:
    folder, source = make_source(direction=OBLIQUE)
    matrix = source.grid.affine.matrix
    turned, moved = labels.transpose(order), matrix.copy()
    moved[:, :3] = matrix[:, list(order)]
    for axis, flip in enumerate(flips):
        if flip < 0:
            turned = np.flip(turned, axis)
            moved[:3, 3] += moved[:3, axis] * (turned.shape[axis] - 1)
            moved[:3, axis] *= -1
    write_image(as_image(turned.copy(), Affine(moved)), tmp_path / "turned.nii.gz")
    convert_file(tmp_path / "turned.nii.gz", tmp_path / "seg.dcm", kind="dicom-seg", source=folder)
    back = read_segmentation(tmp_path / "seg.dcm", source=source.grid).image.values[0]
    np.testing.assert_array_equal(back, labels)


def test_label_maps_drawn_on_what_dcm2niix_makes(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    folder, source = make_source(direction=np.asarray(OBLIQUE) * (1, -1, 1))
    tool("dcm2niix", "-o", tmp_path, "-f", "converted", folder)
    image = nib.load(tmp_path / "converted.nii")
    # Each voxel of theirs takes the label at its place in the patient, by their own affine.
    voxels = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)
    places = nib.affines.apply_affine(image.affine, voxels)
    found = np.rint(source.grid.affine.inverse().apply(places)).astype(int)
    drawn = labels[tuple(np.moveaxis(found, -1, 0))]
    nib.save(nib.Nifti1Image(drawn, image.affine), tmp_path / "drawn.nii.gz")
    convert_file(tmp_path / "drawn.nii.gz", tmp_path / "seg.dcm", kind="dicom-seg", source=folder)
    back = read_segmentation(tmp_path / "seg.dcm", source=source.grid).image.values[0]
    np.testing.assert_array_equal(back, labels)


def test_images_keep_their_values(make_source: MakeSource, tmp_path: Path) -> None:
    folder, _ = make_source(tilt=10)
    convert_file(folder, tmp_path / "image.nii.gz")
    before, after = read_image(folder), read_image(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-4)
    convert_file(folder, tmp_path / "right.nrrd", options=DicomOptions(orthogonal=True))
    assert grid_of(read_image(tmp_path / "right.nrrd")).affine.is_orthogonal()


def test_probabilities_there_and_back(make_source: MakeSource, tmp_path: Path) -> None:
    folder, source = make_source()
    random = np.random.default_rng(0).random((3, *source.grid.shape), np.float32)
    probabilities = random / random.sum(axis=0)
    write_image(as_image(probabilities, source.grid.affine), tmp_path / "p.nii.gz")
    about = {"kind": "dicom-probabilities", "source": folder}
    convert_file(tmp_path / "p.nii.gz", tmp_path / "p.dcm", **about)
    convert_file(tmp_path / "p.dcm", tmp_path / "again.dcm", **about)
    convert_file(tmp_path / "again.dcm", tmp_path / "back.nii.gz", source=folder)
    back = read_image(tmp_path / "back.nii.gz").numpy()
    assert np.abs(back - probabilities[1:]).max() <= 0.5 / 255 + 1e-6


def test_a_seg_is_an_image_like_any_other(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source)
    image = read_image(tmp_path / "seg.dcm")
    assert image.meta["modality"] == "SEG"
    assert np.count_nonzero(image) == np.count_nonzero(labels)
    write_rtstruct(labels, tmp_path / "rt.dcm", source=source)
    with pytest.raises(GeometryError, match="have no grid of their own"):
        read_image(tmp_path / "rt.dcm")
    with pytest.raises(InputError, match="suv"):
        read_image(tmp_path / "seg.dcm", suv=True)


@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct])
def test_labels_of_another_space_get_a_remark(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, write: Callable[..., Any]
) -> None:
    """Two scans by one protocol have the same grid, but not the patient at the same place."""
    folder, source = make_source()
    other, follow_up = make_source("follow_up")
    write(labels, tmp_path / "labels.dcm", source=source)
    done, doubtful = (
        convert_file(tmp_path / "labels.dcm", tmp_path / "labels.nii.gz", source=scan)
        for scan in (folder, other)
    )
    assert not any("another frame of reference" in remark for remark in done.remarks)
    (remark,) = set(doubtful.remarks) - set(done.remarks)
    for header in (source.headers[0], follow_up.headers[0]):
        assert header.FrameOfReferenceUID in remark


def test_what_does_not_go_together_is_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    folder, source = make_source()
    write_image(as_image(labels, source.grid.affine), tmp_path / "labels.nii.gz")
    write_image(as_image(labels + 0.5, source.grid.affine), tmp_path / "image.nii.gz")
    shifted = source.grid.affine.matrix.copy()
    shifted[0, 3] += 0.4
    write_image(as_image(labels, shifted), tmp_path / "shifted.nii.gz")
    target, seg = tmp_path / "out.dcm", {"kind": "dicom-seg", "source": folder}
    cases = [
        ("labels.nii.gz", target, {}, "say what it shall be"),
        ("labels.nii.gz", target, {"kind": "dicom-seg"}, "--source FOLDER"),
        ("labels.nii.gz", target, {"kind": "seg", "source": folder}, "is not known"),
        ("labels.nii.gz", tmp_path / "out.nii", seg, "ends in .dcm"),
        ("labels.nii.gz", tmp_path / "out.xyz", {}, "is not known"),
        ("image.nii.gz", target, seg, "whole numbers"),
        ("shifted.nii.gz", target, seg, "same grid"),
        ("labels.nii.gz", target, {**seg, "compression": "rle"}, "cannot be compressed"),
        ("labels.nii.gz", tmp_path / "out.nrrd", {"compression": "rle"}, "leave it out"),
        ("labels.nii.gz", tmp_path / "out.nrrd", {"source": folder}, "leave the source out"),
    ]
    for name, out, options, words in cases:
        with pytest.raises(InputError, match=words):
            convert_file(tmp_path / name, out, **options)
        assert not out.exists()


def test_turned_grids_are_told_from_others() -> None:
    from volseg.geometry import reorientation_onto

    grid = Grid((3, 4, 5), Affine(np.diag([1.0, 2.0, 3.0, 1.0])))
    swapped = Affine([[0, 1, 0, 0], [-2, 0, 0, 6], [0, 0, 3, 0], [0, 0, 0, 1]])
    turn = reorientation_onto(grid, Grid((4, 3, 5), swapped))
    assert (turn.order, turn.flips) == ((1, 0, 2), (True, False, False))
    for other in (
        Grid((3, 4, 6), grid.affine),
        Grid((3, 4, 5), Affine(np.diag([1.0, 2.0, 3.1, 1.0]))),
        Grid((3, 4, 5), Affine(np.diag([1.0, 2.0, 3.0, 1.0]) + np.pad([[0.5]], ((0, 3), (3, 0))))),
        Grid((3, 4), Affine(np.eye(3))),
    ):
        with pytest.raises(GeometryError):
            reorientation_onto(grid, other)
