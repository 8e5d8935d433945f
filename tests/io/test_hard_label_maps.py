"""Label maps that break converters go from SEG to RTSTRUCT and back, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.io import convert_file
from volseg.io.dicom.segmentations import (
    Algorithm,
    Code,
    Segment,
    SourceSlices,
    read_segmentation,
    write_dicom_seg,
)

MakeSource = Callable[..., tuple[Path, SourceSlices]]
SHAPE = (23, 17, 9)


def islands() -> np.ndarray:
    """Single voxels, alone or touching at corners and edges, with holes of one voxel."""
    return (np.random.default_rng(5).random(SHAPE) < 0.3).astype(np.uint8)


def to_every_border() -> np.ndarray:
    values = np.full(SHAPE, 2, np.uint8)
    values[5:9, 5:9, 2:5] = 1
    return values


def many() -> np.ndarray:
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 301).astype(np.uint16)


def with_gaps() -> np.ndarray:
    return np.array([0, 2, 7, 1000], np.uint16)[np.arange(np.prod(SHAPE)).reshape(SHAPE) // 9 % 4]


MAPS = {"islands": islands, "to every border": to_every_border, "many": many, "gaps": with_gaps}
WRITTEN = (
    Segment(
        1,
        "Milz – größer (脾臓)",
        type=Code("78961009", "SCT", "Spleen"),
        color=(12, 34, 56),
        algorithm=Algorithm("Réseau", "1.0"),
    ),
    Segment(2, "drawn by hand", algorithm=Algorithm("", type="MANUAL")),
    Segment(3, "corrected", algorithm=Algorithm("net and Dr Ü", "2b", "SEMIAUTOMATIC")),
    Segment(4, "of unknown origin, and empty"),
)


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_segments_keep_names_colours_and_what_made_them(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path, encoding: str
) -> None:
    folder, source = make_source()
    seg, rtstruct, again = (tmp_path / f"{name}.dcm" for name in ("seg", "rtstruct", "again"))
    write_dicom_seg(labels, seg, source=source, segments=WRITTEN, encoding=encoding)
    convert_file(seg, rtstruct, kind="rtstruct", source=folder)
    kind = "dicom-seg" if encoding == "binary" else "dicom-labelmap"
    convert_file(rtstruct, again, kind=kind, source=folder)
    for path in (seg, rtstruct, again):
        stored = read_segmentation(path, source=source.grid)
        np.testing.assert_array_equal(stored.image.values[0], labels)
        assert stored.segments == WRITTEN


@pytest.mark.parametrize("name", MAPS)
def test_labels_go_to_rtstruct_and_back(make_source: MakeSource, tmp_path: Path, name: str) -> None:
    folder, source = make_source(direction=[[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, -1]], tilt=7)
    values = MAPS[name]()
    seg, rtstruct, again = (tmp_path / f"{name}.dcm" for name in ("seg", "rtstruct", "again"))
    write_dicom_seg(values, seg, source=source, encoding="labelmap")
    convert_file(seg, rtstruct, kind="rtstruct", source=folder)
    convert_file(rtstruct, again, kind="dicom-labelmap", source=folder)
    for path in (seg, rtstruct, again):
        stored = read_segmentation(path, source=source.grid)
        np.testing.assert_array_equal(stored.image.values[0], values)


@pytest.mark.parametrize("name", ["islands", "to every border", "many"])
def test_binary_segments_hold_them_too(make_source: MakeSource, tmp_path: Path, name: str) -> None:
    _, source = make_source()
    values = MAPS[name]()
    write_dicom_seg(values, tmp_path / "seg.dcm", source=source)
    stored = read_segmentation(tmp_path / "seg.dcm", source=source.grid)
    np.testing.assert_array_equal(stored.image.values[0], values)


def test_gaps_have_no_place_among_binary_segments(make_source: MakeSource, tmp_path: Path) -> None:
    folder, source = make_source()
    write_dicom_seg(with_gaps(), tmp_path / "map.dcm", source=source, encoding="labelmap")
    with pytest.raises(InputError, match="numbers 2, 7, 1000.*take dicom-labelmap"):
        convert_file(tmp_path / "map.dcm", tmp_path / "seg.dcm", kind="dicom-seg", source=folder)
    assert not (tmp_path / "seg.dcm").exists()


def test_other_names_do_not_hide_what_made_the_labels(
    make_source: MakeSource, labels: np.ndarray, tmp_path: Path
) -> None:
    folder, source = make_source()
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source, segments=WRITTEN)
    others = [Segment(number, f"other {number}") for number in (1, 2, 3, 4)]
    about = {"kind": "rtstruct", "source": folder, "segments": others}
    convert_file(tmp_path / "seg.dcm", tmp_path / "rt.dcm", **about)
    stored = read_segmentation(tmp_path / "rt.dcm", source=source.grid).segments
    assert [one.name for one in stored] == [one.name for one in others]
    assert [one.algorithm for one in stored] == [one.algorithm for one in WRITTEN]
    net = Algorithm("net", "3")
    convert_file(tmp_path / "seg.dcm", tmp_path / "rt.dcm", **about, algorithm=net)
    stored = read_segmentation(tmp_path / "rt.dcm", source=source.grid).segments
    assert {one.algorithm for one in stored} == {net}
