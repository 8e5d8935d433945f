"""What a folder holds beside images: segmentations, structure sets, reports, presentations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from volseg.io.dicom import describe_dicom


def of(**tags: Any) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write_object(like: Path, path: Path, **tags: Any) -> None:
    """Write an object without pixels, about the patient of another file."""
    dataset = pydicom.dcmread(like)
    for name in ("Rows", "Columns", "PhotometricInterpretation", "PixelData"):
        delattr(dataset, name)
    dataset.file_meta.MediaStorageSOPClassUID = tags["SOPClassUID"]
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def test_segmentations_are_told_by_their_segments_and_source(
    synthetic: Any, tmp_path: Path
) -> None:
    synthetic().write(tmp_path / "ct")
    tags = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4",
        "SeriesInstanceUID": "1.2.8",
        "Modality": "SEG",
        "SegmentSequence": [
            of(SegmentNumber=1, SegmentLabel="liver"),
            of(SegmentNumber=2, SegmentLabel="spleen"),
        ],
        "ReferencedSeriesSequence": [of(SeriesInstanceUID="1.2.3.4")],
    }
    synthetic(is_multi_frame=True, tags=tags, seed=4).write(tmp_path / "seg")
    folder = describe_dicom(tmp_path)
    assert [series.uid for series in folder.series] == ["1.2.3.4"]
    (found,) = folder.objects
    assert (found.kind, found.modality, found.uid) == ("segmentation (DICOM SEG)", "SEG", "1.2.8")
    assert found.parts == ["liver", "spleen"]
    assert found.refers_to == ["1.2.3.4"]
    assert (found.files, found.path) == (1, str(tmp_path / "seg" / "multi"))
    assert folder.unused == []


def test_reports_and_presentations_are_grouped(synthetic: Any, tmp_path: Path) -> None:
    synthetic().write(tmp_path / "ct")
    like = tmp_path / "ct" / "0000"
    evidence = of(ReferencedSeriesSequence=[of(SeriesInstanceUID="1.2.3.4")])
    write_object(
        like,
        tmp_path / "report",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67",
        SeriesInstanceUID="1.2.9",
        ConceptNameCodeSequence=[of(CodeMeaning="X-Ray Radiation Dose Report")],
        CurrentRequestedProcedureEvidenceSequence=[evidence],
    )
    for number in range(3):
        write_object(
            like,
            tmp_path / f"state{number}",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1",
            SeriesInstanceUID="1.2.10",
            ContentLabel="LUNG",
        )
    # A selection of key images in the very series of the images.
    write_object(like, tmp_path / "key", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59")
    folder = describe_dicom(tmp_path)
    assert len(folder.objects) == 3
    kinds = {one.kind: one for one in folder.objects}
    report = kinds["X-Ray Radiation Dose SR"]
    assert (report.parts, report.refers_to) == (["X-Ray Radiation Dose Report"], ["1.2.3.4"])
    states = kinds["Grayscale Softcopy Presentation State"]
    assert (states.files, states.parts, states.uid) == (3, ["LUNG"], "1.2.10")
    key = kinds["Key Object Selection Document"]
    assert (key.uid, key.refers_to) == ("1.2.3.4", [])
    assert folder.series[0].verdict == "readable"


@pytest.mark.data
def test_real_objects(data_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        folder = describe_dicom(data_root / "dicom_misc")
    assert not caplog.records  # pydicom has much to say of these files
    found = {Path(one.path).name: one for one in folder.objects}
    assert set(found) == {"rtdose.dcm", "rtstruct.dcm", "test-SR.dcm"}
    assert found["rtstruct.dcm"].parts == ["patient", "Isocenter 1", "Isocenter 2"]
    assert found["test-SR.dcm"].parts == ["Diagnosis"]
    segmentations = describe_dicom(data_root / "dicom_seg").objects
    assert [one.parts for one in segmentations] == [
        ["Liver"],
        ["first segment"],
        ["first segment", "second segment"],
        ["first segment"],
    ]


def test_files_are_counted_as_they_are_read(synthetic: Any, tmp_path: Path) -> None:
    synthetic().write(tmp_path)
    seen: list[tuple[int, int]] = []
    describe_dicom(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
