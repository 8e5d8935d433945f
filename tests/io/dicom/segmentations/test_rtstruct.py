"""RTSTRUCT: what plastimatch fills is what was written, for every orientation; and read back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from skimage.measure import points_in_poly

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid
from volseg.io.dicom.segmentations import (
    Algorithm,
    Code,
    Segment,
    SourceSlices,
    read_rtstruct,
    write_rtstruct,
)

MakeSource = Callable[..., tuple[Path, SourceSlices]]
Tool = Callable[..., str]
SIGNS = list(itertools.product((1, -1), repeat=3))
OBLIQUE = [[0.92, -0.35, 0.16], [0.32, 0.93, 0.2], [-0.22, -0.13, 0.96]]
# Rows and columns in planes that are not axial, and a gantry tilted by 15 degrees.
STEEP = {
    "sagittal": ([[0, 0, 1], [1, 0, 0], [0, -1, 0]], 0),
    "coronal": ([[1, 0, 0], [0, 0, 1], [0, -1, 0]], 0),
    "between": ([[0.6, 0, 0.8], [0.64, 0.6, -0.48], [-0.48, 0.8, 0.36]], 0),
    "tilted gantry": ([[1, 0, 0], [0, 0.9659, -0.2588], [0, 0.2588, 0.9659]], 15),
    "tilted and oblique": (OBLIQUE, -20),
}


def masks_of_plastimatch(
    tool: Tool, path: Path, folder: Path, source: SourceSlices, out: Path
) -> dict[str, np.ndarray]:
    """What plastimatch fills, at the centres of the source's voxels."""
    tool(
        *("plastimatch", "convert", "--input", path, "--referenced-ct", folder),
        *("--output-prefix", out, "--prefix-format", "nrrd"),
    )
    grid = source.grid
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    places = grid.affine.apply(voxels) * (-1, -1, 1)
    masks = {}
    for file in out.glob("*.nrrd"):
        image = sitk.ReadImage(str(file))
        direction = np.array(image.GetDirection()).reshape(3, 3)
        steps = np.linalg.inv(direction * image.GetSpacing())
        found = np.rint((places - image.GetOrigin()) @ steps.T).astype(int)
        values = np.pad(sitk.GetArrayFromImage(image).T, 1)
        inside = np.clip(found + 1, 0, np.array(values.shape) - 1)
        masks[file.stem] = values[tuple(np.moveaxis(inside, -1, 0))] > 0
    return masks


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
def test_plastimatch_fills_the_same_voxels(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    tool: Tool,
    direction: Any,
    signs: tuple[int, int, int],
) -> None:
    folder, source = make_source(direction=np.asarray(direction) * signs)
    write_rtstruct(labels, tmp_path / "rt.dcm", source=source)
    masks = masks_of_plastimatch(tool, tmp_path / "rt.dcm", folder, source, tmp_path / "masks")
    assert set(masks) == {"label 1", "label 2", "label 3"}
    for number in (1, 2, 3):
        assert dice(masks[f"label {number}"], labels == number) >= 0.99


@pytest.mark.parametrize("case", STEEP)
@pytest.mark.parametrize("signs", SIGNS)
def test_plastimatch_fills_the_same_voxels_once_planes_are_axial(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    tool: Tool,
    case: str,
    signs: tuple[int, int, int],
) -> None:
    """Plastimatch takes z for the slice and knows no shear: its planes must be axial ones.

    So the points of the contours are brought from the space of the series to that of an axial one
    by the affines of the two, which the test knows from what it put into the headers.
    """
    direction, tilt = STEEP[case]
    _, source = make_source("steep", direction=np.asarray(direction) * signs, tilt=tilt)
    folder, axial = make_source("axial")
    dataset = write_rtstruct(labels, tmp_path / "rt.dcm", source=source)
    to_axial = axial.grid.affine.to_lps() @ np.linalg.inv(source.grid.affine.to_lps())
    for item in dataset.ROIContourSequence:
        for contour in item.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            moved = points @ to_axial[:3, :3].T + to_axial[:3, 3]
            contour.ContourData = [f"{value:.4f}" for value in moved.ravel()]
    dataset.save_as(tmp_path / "moved.dcm", enforce_file_format=True)
    masks = masks_of_plastimatch(tool, tmp_path / "moved.dcm", folder, axial, tmp_path / "masks")
    for number in (1, 2, 3):
        assert dice(masks[f"label {number}"], labels == number) >= 0.99


@pytest.mark.parametrize("case", STEEP)
def test_every_voxel_centre_is_on_its_side_of_the_contours(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, case: str
) -> None:
    """In patient coordinates, from the headers alone: on the slice's plane, and inside or not."""
    direction, tilt = STEEP[case]
    _, source = make_source(direction=direction, tilt=tilt)
    dataset = write_rtstruct(labels, tmp_path / "rt.dcm", source=source)
    headers = {header.SOPInstanceUID: (n, header) for n, header in enumerate(source.headers)}
    columns, rows = np.meshgrid(*map(np.arange, labels.shape[:2]), indexing="ij")
    filled = np.zeros((4, *labels.shape), bool)
    for item in dataset.ROIContourSequence:
        for contour in item.ContourSequence:
            (image,) = contour.ContourImageSequence
            index, header = headers[image.ReferencedSOPInstanceUID]
            along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            between_rows, between_columns = map(float, header.PixelSpacing)
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            offsets = points - np.array(header.ImagePositionPatient, float)
            assert np.abs(offsets @ np.cross(along_row, along_column)).max() < 1e-3
            corners = np.stack([offsets @ along_row, offsets @ along_column], axis=-1)
            centres = np.stack([columns * between_columns, rows * between_rows], -1)
            inside = points_in_poly(centres.reshape(-1, 2), corners).reshape(columns.shape)
            filled[int(item.ReferencedROINumber), :, :, index] |= inside
    for number in (1, 2, 3):
        np.testing.assert_array_equal(filled[number], labels == number)


@pytest.mark.parametrize("case", STEEP)
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_round_trip(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    case: str,
    signs: tuple[int, int, int],
) -> None:
    direction, tilt = STEEP[case]
    _, source = make_source(direction=np.asarray(direction) * signs, tilt=tilt)
    liver = Segment(1, "Leber", type=Code("10200004", "SCT", "Liver"), color=(1, 2, 3))
    segments = [liver, Segment(2, "label 2"), Segment(3, "label 3"), Segment(4, "absent")]
    write_rtstruct(labels, tmp_path / "rt.dcm", source=source, segments=segments)
    back = read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values[0], labels)
    assert back.image.affine == source.grid.affine
    assert [one.number for one in back.segments] == [1, 2, 3, 4]
    assert back.segments[0] == liver


def test_the_file_is_well_formed(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source()
    path = tmp_path / "rt.dcm"
    write_rtstruct(labels, path, source=source, algorithm=Algorithm("Liver net", "1.2.3"))
    report = tool("dciodvfy", path)
    assert "Error" not in report
    assert "RTStructureSet" in report
    dataset = pydicom.dcmread(path)
    first = source.headers[0]
    assert dataset.FrameOfReferenceUID == first.FrameOfReferenceUID
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence] == [
        header.SOPInstanceUID for header in source.headers
    ]
    assert str(dataset.PatientName) == "Müller^Ünal"
    assert dataset.StructureSetROISequence[0].ROIGenerationDescription == "Liver net 1.2.3"
    numbers = [
        value
        for item in dataset.ROIContourSequence
        for c in item.ContourSequence
        for value in c.ContourData
    ]
    assert max(len(str(number)) for number in numbers) <= 16


def test_contours_longer_than_explicit_lengths_allow(
    make_source: MakeSource, tmp_path: Path
) -> None:
    shape = (2401, 4, 2)
    _, source = make_source(shape=shape)
    x, y, _ = np.meshgrid(*map(np.arange, shape), indexing="ij")
    comb = ((x % 2 == 0) | (y == 0)).astype(np.uint8)
    write_rtstruct(comb, tmp_path / "rt.dcm", source=source)
    contour = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].ContourSequence[0]
    assert len("\\".join(map(str, contour.ContourData))) > 0xFFFF
    np.testing.assert_array_equal(
        read_rtstruct(tmp_path / "rt.dcm", source=source.grid).image.values[0], comb
    )


def test_the_same_labels_give_the_same_file_when_asked(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    files = []
    for number, stable in enumerate((True, True, False)):
        path = tmp_path / f"{number}.dcm"
        write_rtstruct(labels, path, source=source, stable=stable)
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_what_cannot_be_written_is_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    path = tmp_path / "rt.dcm"
    with pytest.raises(InputError, match="at least one segment"):
        write_rtstruct(labels * 0, path, source=source)
    with pytest.raises(InputError, match="no segment describes"):
        write_rtstruct(labels, path, source=source, segments=[Segment(1, "liver")])
    with pytest.raises(ShapeError, match="spatial shape"):
        write_rtstruct(labels.T, path, source=source)
    assert not path.exists()


def test_an_empty_map_is_written_with_its_structures(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source()
    write_rtstruct(labels * 0, tmp_path / "rt.dcm", source=source, segments=[Segment(1, "liver")])
    assert "Error" not in tool("dciodvfy", tmp_path / "rt.dcm")
    back = read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    assert not back.image.values.any()
    assert [one.name for one in back.segments] == ["liver"]


def test_overlapping_structures_are_refused_or_told_apart(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    dataset = write_rtstruct(labels, tmp_path / "rt.dcm", source=source)
    first, second, _ = dataset.ROIContourSequence
    second.ContourSequence.extend(first.ContourSequence)
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=rf"in {np.count_nonzero(labels == 1)} voxels"):
        read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    masks = read_rtstruct(tmp_path / "rt.dcm", source=source.grid, overlap="channels").image.values
    np.testing.assert_array_equal(masks[0] > 0, labels == 1)
    np.testing.assert_array_equal(masks[1] > 0, (labels == 1) | (labels == 2))
    last = read_rtstruct(tmp_path / "rt.dcm", source=source.grid, overlap="last").image.values
    np.testing.assert_array_equal(last[0], np.where(labels == 1, 2, labels))


def test_structures_of_other_programs(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    """Inner contours as holes, ROI number 0, points, and contours of another series."""
    _, source = make_source()
    dataset = write_rtstruct((labels == 3).astype(np.uint8), tmp_path / "rt.dcm", source=source)
    (roi,) = dataset.ROIContourSequence
    matrix = source.grid.affine.to_lps()

    def contour(low: float, high: float, index: float, kind: str = "CLOSED_PLANAR") -> Any:
        item = pydicom.Dataset()
        corners = [(low, low), (high, low), (high, high), (low, high)]
        points = np.array([(x, y, index) for x, y in corners]) @ matrix[:3, :3].T + matrix[:3, 3]
        item.ContourGeometricType, item.NumberOfContourPoints = kind, 4
        item.ContourData = [f"{value:.6f}" for value in points.ravel()]
        return item

    roi.ContourSequence = [contour(0.6, 8.4, 2), contour(2.7, 5.1, 2), contour(1, 2, 2, "POINT")]
    roi.ReferencedROINumber = 0
    dataset.StructureSetROISequence[0].ROINumber = 0
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    back = read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    expected = np.zeros_like(labels)
    expected[1:9, 1:9, 2] = 1
    expected[3:6, 3:6, 2] = 0
    np.testing.assert_array_equal(back.image.values[0], expected)
    assert any("numbered from 1" in remark for remark in back.image.remarks)
    assert any("1 points or open contours" in remark for remark in back.image.remarks)

    for index, words in ((2.5, "expected one slice"), (9, "has 9")):
        roi.ContourSequence = [contour(0.6, 8.4, index)]
        dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
        with pytest.raises(GeometryError, match=words):
            read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    roi.ContourSequence = [contour(1, 2, 2, "POINT")]
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="points or open contours and no closed one"):
        read_rtstruct(tmp_path / "rt.dcm", source=source.grid)
    turned = Grid(
        labels.shape,
        source.grid.affine @ Affine([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
    )
    roi.ContourSequence = [contour(0.6, 8.4, 2)]
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError, match="expected one slice"):
        read_rtstruct(tmp_path / "rt.dcm", source=turned)
