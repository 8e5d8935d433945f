"""DICOM SEG: written on the source's frames, read by others' programs, and read back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid
from volseg.io import as_image, read_image
from volseg.io.dicom import open_series
from volseg.io.dicom.segmentations import (
    Algorithm,
    Code,
    Segment,
    SourceSlices,
    read_dicom_seg,
    source_slices,
    write_dicom_probabilities,
    write_dicom_seg,
)
from volseg.io.dicom.segmentations.source import checked_source

MakeSource = Callable[..., tuple[Path, SourceSlices]]
Tool = Callable[..., str]
SIGNS = list(itertools.product((1, -1), repeat=3))
# What dciodvfy of Debian 12 (2022) finds in correct files, and why it is no fault.
EXPLAINED = (
    # The encoding of label maps came into the standard in 2023.
    "Information Object Not found",
    # Label maps may describe their background, segment 0 (PS3.3 C.8.20.2).
    "SegmentNumber not monotonically increasing from one by one - have SegmentSequence item "
    "number 1 (from one) with SegmentNumber of 0",
)
LIVER = Segment(
    1,
    "liver",
    category=Code("91723000", "SCT", "Anatomical Structure"),
    type=Code("10200004", "SCT", "Liver"),
    modifiers=(Code("24028007", "SCT", "Right"),),
)
SEGMENTS = (LIVER, Segment(2, "Läsion"), Segment(3, "spleen"), Segment(4, "not in this map"))


def errors_of(report: str) -> list[str]:
    errors = [line[len("Error - ") :] for line in report.splitlines() if line.startswith("Error")]
    return [error for error in errors if not error.startswith(EXPLAINED)]


def placed(values: np.ndarray, grid: Grid) -> Any:
    return as_image(values[np.newaxis], grid.affine)


def by_position(image: Any) -> dict[tuple[float, ...], int]:
    """The labels of an image of SimpleITK at their places in the patient, LPS mm."""
    found = {}
    values = sitk.GetArrayViewFromImage(image)
    for z, y, x in np.argwhere(values):
        place = image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
        found[tuple(np.round(place, 2) + 0.0)] = int(values[z, y, x])
    return found


def expected_by_position(values: np.ndarray, grid: Grid) -> dict[tuple[float, ...], int]:
    places = grid.affine.apply(np.argwhere(values)) * (-1, -1, 1)
    return {
        tuple(np.round(place, 2) + 0.0): int(label)
        for place, label in zip(places, values[values > 0], strict=True)
    }


@pytest.mark.parametrize(
    ("encoding", "compression"),
    [
        ("binary", None),
        ("labelmap", None),
        ("labelmap", "rle"),
        ("labelmap", "jpeg-ls"),
    ],
)
@pytest.mark.parametrize("tilt", [0, 12.5])
def test_round_trip(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    encoding: str,
    compression: str | None,
    tilt: float,
) -> None:
    _, source = make_source(direction=[[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, -1]], tilt=tilt)
    path = tmp_path / "out" / "seg.dcm"
    write_dicom_seg(
        placed(labels, source.grid),
        path,
        source=source,
        segments=SEGMENTS,
        encoding=encoding,
        compression=compression,
    )
    back = read_dicom_seg(path, source=source.grid)
    np.testing.assert_array_equal(back.image.values, labels[np.newaxis])
    assert back.image.values.dtype == np.uint8
    assert back.image.affine == source.grid.affine
    assert [(one.number, one.name) for one in back.segments] == [
        (one.number, one.name) for one in SEGMENTS
    ]
    assert back.segments[0] == LIVER

    alone = read_dicom_seg(path)
    frames = np.flatnonzero(labels.any(axis=(0, 1)))
    held = labels[..., frames.min() : frames.max() + 1]
    if alone.image.values.shape[-1] != held.shape[-1]:
        held = labels
    # Without the source, slices run with row x column; the affine says so.
    own = expected_by_position(alone.image.values[0], Grid(held.shape, alone.image.affine))
    assert own == expected_by_position(labels, source.grid)


def test_jpeg2000(make_source: MakeSource, tmp_path: Path) -> None:
    shape = (37, 41, 3)
    _, source = make_source(shape=shape)
    labels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    path = tmp_path / "seg.dcm"
    dataset = write_dicom_seg(
        labels, path, source=source, encoding="labelmap", compression="jpeg2000"
    )
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    np.testing.assert_array_equal(read_dicom_seg(path).image.values[0], labels)


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_highdicom_reads_what_was_meant(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, encoding: str
) -> None:
    _, source = make_source()
    write_dicom_seg(
        labels,
        tmp_path / "seg.dcm",
        source=source,
        segments=SEGMENTS,
        algorithm=Algorithm("Liver net", "1.2.3"),
        encoding=encoding,
    )
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    pixels = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in source.headers],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), labels)
    first = seg.get_segment_description(1)
    assert first.segmented_property_type.meaning == "Liver"
    assert first.segmented_property_category.value == "91723000"
    assert first.algorithm_identification.name == "Liver net"
    assert first.algorithm_identification.version == "1.2.3"
    second = seg.get_segment_description(2)
    assert (second.segment_label, second.segmented_property_type.value) == ("Läsion", "85756007")
    assert str(seg.PatientName) == "Müller^Ünal"
    assert seg.FrameOfReferenceUID == source.headers[0].FrameOfReferenceUID


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("signs", SIGNS)
def test_dcmqi_puts_every_voxel_where_it_was(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    tool: Tool,
    signs: tuple[int, int, int],
    encoding: str,
) -> None:
    _, source = make_source(direction=np.array([[0, 0.6, 0.8], [1, 0, 0], [0, -0.8, 0.6]]) * signs)
    path = tmp_path / "seg.dcm"
    write_dicom_seg(labels, path, source=source, segments=SEGMENTS, encoding=encoding)
    assert errors_of(tool("dciodvfy", path)) == []
    out = tmp_path / "dcmqi"
    out.mkdir()
    tool("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out, "--mergeSegments")
    (file,) = out.glob("*.nrrd")
    read = by_position(sitk.ReadImage(str(file)))
    assert read == expected_by_position(labels, source.grid)
    (meta,) = out.glob("*.json")
    entries = [
        entry for group in json.loads(meta.read_text())["segmentAttributes"] for entry in group
    ]
    kind = entries[0]["SegmentedPropertyTypeCodeSequence"]
    assert (entries[0]["SegmentLabel"], kind["CodeMeaning"]) == ("liver", "Liver")


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_labels_of_unknown_origin_name_no_algorithm(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, encoding: str
) -> None:
    _, source = make_source()
    dataset = write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, encoding=encoding)
    for item in dataset.SegmentSequence:
        assert "SegmentationAlgorithmIdentificationSequence" not in item
    item = dataset.SegmentSequence[-1]
    assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "not stated")


def test_names_that_dicom_does_not_take_are_changed(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    segments = [Segment(1, "left\\right " + "x" * 80), Segment(2, "b"), Segment(3, "c")]
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, segments=segments)
    name = read_dicom_seg(tmp_path / "seg.dcm").segments[0].name
    assert name == ("left/right " + "x" * 80)[:64]


def test_frames_of_segments_that_are_not_described_are_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    for encoding in ("binary", "labelmap"):
        path = tmp_path / f"{encoding}.dcm"
        dataset = write_dicom_seg(labels, path, source=source, encoding=encoding)
        del dataset.SegmentSequence[-1]
        dataset.save_as(path)
        for overlap in ("refuse", "last", "channels"):
            with pytest.raises(InputError, match="holds 3, which no segment describes"):
                read_dicom_seg(path, overlap=overlap)


def test_values_may_have_gaps_in_a_label_map_only(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    spread = np.array([0, 2, 7, 300], np.uint16)[labels]
    write_dicom_seg(spread, tmp_path / "seg.dcm", source=source, encoding="labelmap")
    back = read_dicom_seg(tmp_path / "seg.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values[0], spread)
    with pytest.raises(InputError, match="numbers 2, 7, 300.*labelmap"):
        write_dicom_seg(spread, tmp_path / "bad.dcm", source=source)
    assert not (tmp_path / "bad.dcm").exists()


def test_probabilities_keep_to_a_255th(make_source: MakeSource, tmp_path: Path, tool: Tool) -> None:
    _, source = make_source(direction=np.diag([1, -1, -1]))
    logits = np.random.default_rng(0).normal(size=(3, *source.grid.shape)) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    for compression in (None, "rle"):
        path = tmp_path / f"{compression}.dcm"
        write_dicom_probabilities(probabilities, path, source=source, compression=compression)
        back = read_dicom_seg(path, source=source.grid)
        assert back.image.values.shape == (2, *source.grid.shape)
        assert np.abs(back.image.values - probabilities[1:]).max() <= 0.5 / 255 + 1e-6
        assert errors_of(tool("dciodvfy", path)) == []
    with pytest.raises(InputError, match="between 0 and 1"):
        write_dicom_probabilities(logits, tmp_path / "no.dcm", source=source)
    with pytest.raises(ShapeError, match="background first"):
        write_dicom_probabilities(probabilities[0], tmp_path / "no.dcm", source=source)
    with pytest.raises(InputError, match="describe each class once"):
        write_dicom_probabilities(
            probabilities, tmp_path / "no.dcm", source=source, segments=SEGMENTS
        )


class OnDisk:
    """An array that is read in parts, and counts how much at once."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.shape, self.dtype = values, values.shape, values.dtype
        self.most = 0

    def __getitem__(self, place: tuple[slice, ...]) -> np.ndarray:
        part = self._values[place]
        self.most = max(self.most, part.nbytes)
        return part


@pytest.mark.parametrize("compression", [None, "rle"])
def test_probabilities_on_disk_give_the_same_file(
    make_source: MakeSource, tmp_path: Path, compression: str | None
) -> None:
    _, source = make_source(shape=(200, 210, 150))
    probabilities = np.zeros((3, *source.grid.shape), np.float32)
    probabilities[0] = 1
    probabilities[1, 3:60, 7:90, 5:100] = np.linspace(0, 1, 83)[:, np.newaxis]
    probabilities[2, ..., 40] = 0.4 / 255  # rounds to nothing, so that there is no frame
    on_disk = OnDisk(probabilities)
    about = {"source": source, "compression": compression, "stable": True}
    for name, values in (("memory", probabilities), ("disk", on_disk)):
        write_dicom_probabilities(values, tmp_path / f"{name}.dcm", **about)
    assert (tmp_path / "memory.dcm").read_bytes() == (tmp_path / "disk.dcm").read_bytes()
    assert on_disk.most <= 2**24
    dataset = pydicom.dcmread(tmp_path / "disk.dcm")
    assert dataset.NumberOfFrames == 95
    back = read_dicom_seg(tmp_path / "disk.dcm", source=source.grid).image.values
    assert np.abs(back - probabilities[1:]).max() <= 0.5 / 255 + 1e-6


def test_the_same_frames_elsewhere_are_another_object(
    make_source: MakeSource, tmp_path: Path
) -> None:
    _, source = make_source()

    def uid_of(channel: int, index: int) -> str:
        probabilities = np.zeros((3, *source.grid.shape), np.float32)
        probabilities[channel, 2:9, 3:7, index] = 0.5
        path = tmp_path / "seg.dcm"
        dataset = write_dicom_probabilities(probabilities, path, source=source, stable=True)
        return str(dataset.SOPInstanceUID)

    assert uid_of(1, 1) == uid_of(1, 1)
    assert len({uid_of(1, 1), uid_of(1, 2), uid_of(2, 1)}) == 3


def test_probabilities_of_nothing_are_written(
    make_source: MakeSource, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source()
    probabilities = np.zeros((2, *source.grid.shape), np.float32)
    write_dicom_probabilities(probabilities, tmp_path / "seg.dcm", source=source)
    assert errors_of(tool("dciodvfy", tmp_path / "seg.dcm")) == []
    back = read_dicom_seg(tmp_path / "seg.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values, probabilities[1:])


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_the_same_labels_give_the_same_file_when_asked(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, encoding: str
) -> None:
    _, source = make_source()

    def written(values: np.ndarray, *, stable: bool = True, version: str = "1") -> bytes:
        write_dicom_seg(
            values,
            tmp_path / "seg.dcm",
            source=source,
            algorithm=Algorithm("net", version),
            encoding=encoding,
            stable=stable,
        )
        return (tmp_path / "seg.dcm").read_bytes()

    first = written(labels)
    assert written(labels) == first
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240229", "101530")
    other = labels.copy()
    other[0, 0, 0] = 3
    uids = {dataset.SOPInstanceUID}
    for values, options in (
        (other, {}),
        (labels, {"version": "2"}),
        (labels, {"stable": False}),
        (labels, {"stable": False}),
    ):
        assert written(values, **options) != first
        uids.add(pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID)
    assert len(uids) == 5


def test_an_empty_map_is_written_with_its_segments(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source()
    for encoding in ("binary", "labelmap"):
        path = tmp_path / f"{encoding}.dcm"
        write_dicom_seg(labels * 0, path, source=source, segments=[LIVER], encoding=encoding)
        back = read_dicom_seg(path)
        assert back.image.values.shape == (1, *labels.shape)
        assert not back.image.values.any()
        assert errors_of(tool("dciodvfy", path)) == []
    with pytest.raises(InputError, match="at least one segment"):
        write_dicom_seg(labels * 0, tmp_path / "no.dcm", source=source)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"segments": [LIVER]}, InputError, "holds 2, 3, which no segment describes"),
        ({"segments": [LIVER, LIVER]}, InputError, "each once"),
        ({"encoding": "bits"}, InputError, "binary or labelmap"),
        ({"compression": "zip"}, InputError, "rle, jpeg-ls"),
        ({"compression": "rle"}, InputError, "cannot be compressed"),
    ],
)
def test_what_cannot_be_written_is_refused(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    _, source = make_source()
    with pytest.raises(error, match=words):
        write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, **options)
    assert not (tmp_path / "seg.dcm").exists()


def test_labels_of_another_grid_are_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    with pytest.raises(ShapeError, match="spatial shape"):
        write_dicom_seg(labels[:-1], tmp_path / "seg.dcm", source=source)
    flipped = source.grid.affine @ Affine(np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(GeometryError, match="same grid"):
        write_dicom_seg(
            placed(labels, Grid(labels.shape, flipped)), tmp_path / "seg.dcm", source=source
        )


def test_headers_of_anonymised_series_are_completed(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    bare = dict.fromkeys(
        (
            *("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SliceThickness"),
            *(
                "AccessionNumber",
                "StudyDate",
                "ReferringPhysicianName",
                "PositionReferenceIndicator",
            ),
        )
    )
    _, source = make_source(**bare, PatientAge="0Y", PatientSex="U", PatientName="anonymous")
    _, again = make_source("again", **bare)
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        (uid,) = {header[name].value for header in source.headers}
        (other,) = {header[name].value for header in again.headers}
        assert uid != other
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source)
    assert errors_of(tool("dciodvfy", tmp_path / "seg.dcm")) == []
    back = read_dicom_seg(tmp_path / "seg.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values[0], labels)


def test_headers_that_nothing_can_refer_to_are_refused(make_source: MakeSource) -> None:
    folder, source = make_source()
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    before = [header.to_json() for header in headers]
    checked_source(source.grid, headers)
    assert [header.to_json() for header in headers] == before
    with pytest.raises(GeometryError, match="in the order of the volume"):
        checked_source(source.grid, headers[::-1])
    with pytest.raises(GeometryError, match="8 slices"):
        checked_source(source.grid, headers[1:])
    headers[3].SeriesInstanceUID = "1.2.3"
    with pytest.raises(InputError, match="2 series"):
        checked_source(source.grid, headers)
    del headers[3].Modality
    with pytest.raises(InputError, match="lacks Modality"):
        checked_source(source.grid, headers)


def test_elements_that_nobody_can_read_are_not_repeated(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    folder, _ = make_source()
    tag = bytes.fromhex("18007390")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.add_new("AcquisitionDuration", "SH", "1A")
        dataset.save_as(path)
        # A number of type FD has eight bytes, not two.
        path.write_bytes(path.read_bytes().replace(tag + b"SH", tag + b"FD"))
    source = source_slices(open_series(folder))
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source)
    back = read_dicom_seg(tmp_path / "seg.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values[0], labels)


def test_enhanced_files_of_one_frame_each_are_refused(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(is_multi_frame=True).write(tmp_path / "whole")
    folder = tmp_path / "split"
    folder.mkdir()
    for number in range(6):
        frame = pydicom.dcmread(tmp_path / "whole" / "multi")
        size = len(frame.PixelData) // 6
        frame.PixelData = frame.PixelData[number * size : (number + 1) * size]
        frame.PerFrameFunctionalGroupsSequence = [frame.PerFrameFunctionalGroupsSequence[number]]
        frame.NumberOfFrames = 1
        frame.SOPInstanceUID = f"1.2.3.7.{number + 1}"
        frame.save_as(folder / f"{number}.dcm")
    np.testing.assert_array_equal(read_image(folder).numpy(), truth.values)
    with pytest.raises(InputError, match="6 enhanced files"):
        source_slices(open_series(folder))


# Files of other writers.


@pytest.mark.data
def test_dcmqi_file(data_root: Path) -> None:
    folder = data_root / "dicom_seg" / "dcmqi_24x38x3"
    seg = read_dicom_seg(folder / "label_seg.dcm")
    image = seg.image
    truth = sitk.ReadImage(str(folder / "label.nrrd"))
    expected = dict.fromkeys(by_position(truth), 1)
    grid = Grid(image.values.shape[1:], image.require_affine())
    assert expected_by_position(image.values[0], grid) == expected
    assert [(one.name, one.type.value) for one in seg.segments] == [("Liver", "T-62000")]


@pytest.mark.data
def test_overlapping_segments_are_refused_or_told_apart(data_root: Path) -> None:
    path = data_root / "dicom_seg" / "highdicom" / "seg_image_ct_binary_overlap.dcm"
    seg = highdicom.seg.segread(path)
    pixels = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little").reshape(
        8, 16, 16
    )
    with pytest.raises(InputError, match=r"'first segment' \(1\) and 'second segment' \(2\)"):
        read_dicom_seg(path)
    channels = read_dicom_seg(path, overlap="channels").image
    # Its first frame lies 162 slices before the others, which are neighbours.
    assert channels.values.shape == (2, 16, 16, 165)
    for segment in (0, 1):
        frames = pixels[4 * segment : 4 * segment + 4].transpose(2, 1, 0)
        np.testing.assert_array_equal(channels.values[segment][..., [0, 162, 163, 164]], frames)
    last = read_dicom_seg(path, overlap="last").image.values
    first, second = channels.values
    np.testing.assert_array_equal(last[0], np.where(second > 0, 2, first))
    with pytest.raises(InputError, match="refuse, last, channels"):
        read_dicom_seg(path, overlap="first")


@pytest.mark.data
def test_fractional_file(data_root: Path) -> None:
    path = data_root / "dicom_seg" / "highdicom" / "seg_image_ct_true_fractional.dcm"
    image = read_dicom_seg(path).image
    seg = pydicom.dcmread(path)
    expected = seg.pixel_array.transpose(2, 1, 0) / seg.MaximumFractionalValue
    np.testing.assert_allclose(image.values[0], expected, atol=1e-6)


def test_order_of_frames_does_not_matter(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    dataset = write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, encoding="labelmap")
    frames = dataset.pixel_array[::-1]
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[::-1]
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    dataset.save_as(tmp_path / "turned.dcm")
    back = read_dicom_seg(tmp_path / "turned.dcm", source=source.grid)
    np.testing.assert_array_equal(back.image.values[0], labels)


def test_frames_that_do_not_suit_are_refused(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    path = tmp_path / "seg.dcm"
    dataset = write_dicom_seg(labels, path, source=source)
    shifted = Affine(source.grid.affine.matrix + np.pad([[0.5]], ((0, 3), (3, 0))))
    with pytest.raises(GeometryError, match="does not lie on a slice"):
        read_dicom_seg(path, source=Grid(labels.shape, shifted))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = 1e-6
    dataset.save_as(tmp_path / "close.dcm")
    with pytest.raises(GeometryError, match="are 1e-06 mm apart"):
        read_dicom_seg(tmp_path / "close.dcm")
    del measures.SpacingBetweenSlices
    measures.SliceThickness = 1
    # Two frames, far apart: nothing says how many slices lie between them.
    dataset.PerFrameFunctionalGroupsSequence = [
        dataset.PerFrameFunctionalGroupsSequence[0],
        dataset.PerFrameFunctionalGroupsSequence[3],
    ]
    dataset.NumberOfFrames = 2
    dataset.PixelData = dataset.PixelData[:98]
    dataset.save_as(tmp_path / "two.dcm")
    with pytest.raises(GeometryError, match="how far apart"):
        read_dicom_seg(tmp_path / "two.dcm")


def test_what_does_not_fit_into_memory_gets_a_sentence(
    make_source: MakeSource,
    labels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, source = make_source()
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source)

    def no_room(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("volseg.io.dicom.segmentations.seg_reading.LabelMapMaker", no_room)
    with pytest.raises(InputError, match="do not fit into the memory"):
        read_dicom_seg(tmp_path / "seg.dcm")


@pytest.mark.parametrize("cut", [300, 2500, -40])
def test_damaged_files_get_a_sentence(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, cut: int
) -> None:
    _, source = make_source()
    path = tmp_path / "seg.dcm"
    write_dicom_seg(labels, path, source=source)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="cannot read") as caught:
        read_dicom_seg(path)
    assert "\n" not in str(caught.value)
