"""A picture of a result as Secondary Capture: well formed, and in the study of its series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from volseg.errors import InputError, ShapeError
from volseg.io.dicom.segmentations import Algorithm, SourceSlices, write_dicom_preview
from volseg.pacs import Anonymizer

MakeSource = Callable[..., tuple[Path, SourceSlices]]
Tool = Callable[..., str]


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (31, 47, 3)).astype(np.uint8)


def test_it_refers_to_its_series_and_is_well_formed(
    make_source: MakeSource, picture: np.ndarray, tmp_path: Path, tool: Tool
) -> None:
    _, source = make_source()
    path = tmp_path / "preview.dcm"
    write_dicom_preview(picture, path, source=source, algorithm=Algorithm("Liver net", "1.2.3"))
    assert "Error" not in tool("dciodvfy", path)
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(dataset.pixel_array, picture)
    first = source.headers[0]
    assert str(dataset.PatientName) == str(first.PatientName) == "Müller^Ünal"
    assert dataset.StudyInstanceUID == first.StudyInstanceUID
    assert dataset.SeriesDescription == "Preview: Segmentation by Liver net"
    assert dataset.BurnedInAnnotation == "NO"
    assert [item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence] == [
        header.SOPInstanceUID for header in source.headers
    ]


def test_text_in_the_images_is_text_in_the_picture(
    make_source: MakeSource, picture: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source(BurnedInAnnotation="YES")
    dataset = write_dicom_preview(picture, tmp_path / "preview.dcm", source=source)
    assert dataset.BurnedInAnnotation == "YES"


@pytest.mark.parametrize("kind", ["3.1", "6.1", "7", "7.2"])
def test_a_picture_of_what_nobody_checked_does_not_say_that_it_has_no_text(
    make_source: MakeSource, picture: np.ndarray, tmp_path: Path, kind: str
) -> None:
    kind = f"1.2.840.10008.5.1.4.1.1.{kind}"
    _, source = make_source(SOPClassUID=kind)
    dataset = write_dicom_preview(picture, tmp_path / "preview.dcm", source=source)
    assert "BurnedInAnnotation" not in dataset
    with pytest.raises(InputError, match="may have it"):
        Anonymizer(bytes(32)).require_possible(dataset, "the picture")
    _, checked = make_source("checked", SOPClassUID=kind, BurnedInAnnotation="NO")
    dataset = write_dicom_preview(picture, tmp_path / "checked.dcm", source=checked)
    assert dataset.BurnedInAnnotation == "NO"


def test_the_same_picture_gives_the_same_file_when_asked(
    make_source: MakeSource, picture: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    files = []
    for stable in (True, True, False):
        path = tmp_path / "preview.dcm"
        write_dicom_preview(picture, path, source=source, stable=stable)
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_what_is_no_picture_is_refused(
    make_source: MakeSource, picture: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    for other in (picture[..., 0], picture[..., :2], picture / 255):
        with pytest.raises(ShapeError, match="rows, columns, 3"):
            write_dicom_preview(other, tmp_path / "preview.dcm", source=source)
    assert not (tmp_path / "preview.dcm").exists()
