"""A segmentation in the formats that were asked for: one label map through all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from volseg.errors import InputError, OutputError
from volseg.io import read_image
from volseg.io.dicom import open_series
from volseg.io.dicom.segmentations import read_segmentation
from volseg.pacs import Anonymizer
from volseg.segmenter import Segmenter, result_files, segment_to_files

ALL = ["nifti", "dicom-seg", "dicom-labelmap", "dicom-probabilities", "rtstruct", "sr"]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("hippocampus_unet", settings={"backend": "torch"})


@pytest.mark.data
def test_every_format_holds_the_same_labels(
    data_root: Path, tmp_path: Path, segmenter: Segmenter
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    files = result_files(tmp_path / "out", "case", ALL, spatial_dims=3)
    segment_to_files(segmenter, series, files, stable=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case_labelmap.dcm",
        "case_probabilities.dcm",
        "case_rtstruct.dcm",
        "case_seg.dcm",
        "case_seg.nii.gz",
        "case_sr.dcm",
    ]
    labels = read_image(files["nifti"])
    assert set(np.unique(labels)) == {0, 1, 2}
    grid = open_series(series).grid
    for name in ("dicom-seg", "dicom-labelmap", "rtstruct"):
        stored = read_segmentation(files[name], source=grid)
        np.testing.assert_array_equal(stored.image.values, labels.numpy())
        assert [one.name for one in stored.segments] == ["anterior", "posterior"]
        assert {one.type.meaning for one in stored.segments} == {"Hippocampus"}
        assert stored.segments[0].modifiers[0].meaning == "Anterior"
    seg = pydicom.dcmread(files["dicom-seg"])
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "Hippocampus U-Net"
    assert algorithm.AlgorithmVersion == segmenter.bundle.metadata["version"]
    report = pydicom.dcmread(files["sr"])
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert seg.SOPInstanceUID in {
        item.ReferencedSOPInstanceUID for one in evidence for item in one.ReferencedSOPSequence
    }

    again = result_files(tmp_path / "again", "case", ALL[1:], spatial_dims=3)
    segment_to_files(segmenter, series, again, stable=True)
    assert not (tmp_path / "again" / "case_seg.nii.gz").exists()
    for name, path in again.items():
        assert path.read_bytes() == files[name].read_bytes()


@pytest.mark.data
def test_the_report_calls_suv_what_was_read_as_suv(
    data_root: Path, tmp_path: Path, segmenter: Segmenter
) -> None:
    drug = pydicom.Dataset()
    drug.RadionuclideTotalDose = 3.7e8
    for path in (data_root / "dicom_series" / "mr_hippocrop_a" / "dicom").iterdir():
        slice_of_pet = pydicom.dcmread(path)
        slice_of_pet.Modality, slice_of_pet.Units = "PT", "BQML"
        slice_of_pet.DecayCorrection, slice_of_pet.CorrectedImage = "ADMIN", ["ATTN", "DECY"]
        slice_of_pet.PatientWeight = 75
        slice_of_pet.RadiopharmaceuticalInformationSequence = [drug]
        (tmp_path / "pet").mkdir(exist_ok=True)
        slice_of_pet.save_as(tmp_path / "pet" / path.name)
    files = result_files(tmp_path, "case", ["dicom-seg", "sr"], spatial_dims=3)
    record = segment_to_files(segmenter, tmp_path / "pet", files, reading={"suv": True})
    report = pydicom.dcmread(files["sr"])
    values = [one[0] for one in report.iterall() if one.keyword == "MeasuredValueSequence"]
    found = [
        (item.MeasurementUnitsCodeSequence[0].CodeValue, float(item.NumericValue))
        for item in values
    ]
    first = record.statistics.labels[0].intensities[0]
    assert found[1] == ("g/ml{SUVbw}", pytest.approx(first.mean, rel=1e-8))
    assert {unit for unit, _ in found} == {"mm3", "g/ml{SUVbw}"}


@pytest.mark.data
def test_probabilities_are_those_of_the_other_formats(
    data_root: Path, tmp_path: Path, segmenter: Segmenter
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    files = {"nifti": tmp_path / "labels.nii"}
    segment_to_files(segmenter, series, files, probabilities=tmp_path / "p.nii")
    expected = read_image(tmp_path / "p.nii").numpy()
    dicom = {"dicom-probabilities": tmp_path / "p.dcm"}
    record = segment_to_files(segmenter, series, dicom)
    assert record.files == dicom
    stored = read_segmentation(tmp_path / "p.dcm", source=open_series(series).grid)
    assert np.abs(stored.image.values - expected[1:]).max() <= 0.5 / 255 + 1e-6
    assert [one.name for one in stored.segments] == ["anterior", "posterior"]
    with pytest.raises(InputError, match="ask for one of them"):
        segment_to_files(segmenter, series, dicom, probabilities=tmp_path / "p.nii")


@pytest.mark.data
def test_anonymized_results_are_those_that_anonymizing_makes(
    data_root: Path, tmp_path: Path, segmenter: Segmenter
) -> None:
    series = data_root / "dicom_series" / "mr_hippocrop_a" / "dicom"
    anonymizer = Anonymizer(b"k" * 32)
    plain = result_files(tmp_path / "plain", "case", ALL[1:], spatial_dims=3)
    hidden = result_files(tmp_path / "hidden", "case", ALL[1:], spatial_dims=3)
    segment_to_files(segmenter, series, plain, stable=True)
    segment_to_files(segmenter, series, hidden, stable=True, anonymizer=anonymizer)
    header = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)
    for name, path in plain.items():
        anonymizer.write_copy(path, tmp_path / "expected.dcm")
        content = hidden[name].read_bytes()
        assert content == (tmp_path / "expected.dcm").read_bytes()
        for telling in (header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID):
            assert str(telling).encode() not in content
        found = pydicom.dcmread(hidden[name], stop_before_pixels=True)
        assert found.StudyInstanceUID == anonymizer.new_uid(header.StudyInstanceUID)


@pytest.mark.data
def test_what_cannot_be_had_is_known_before_the_network_runs(
    data_root: Path, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "segment_file", lambda *_, **__: pytest.fail("it ran"))
    series = data_root / "dicom_series" / "mr_hippocrop_a"
    files = {"dicom-seg": tmp_path / "seg.dcm"}
    with pytest.raises(InputError, match="give a DICOM folder"):
        segment_to_files(segmenter, series / "dcm2niix.nii.gz", files)
    with pytest.raises(InputError, match="with orthogonal labels lie on others"):
        segment_to_files(segmenter, series / "dicom", files, reading={"orthogonal": True})
    (tmp_path / "file").write_text("no folder can be made below a file")
    with pytest.raises(OutputError, match="Not a directory"):
        segment_to_files(segmenter, series / "dicom", {"sr": tmp_path / "file" / "sr.dcm"})
    two = tmp_path / "two"
    shutil.copytree(series / "dicom", two / "a")
    shutil.copytree(data_root / "dicom_series" / "mr_sagittal_raw" / "dicom", two / "b")
    with pytest.raises(InputError, match="2 DICOM series"):
        segment_to_files(segmenter, two, files)
    assert not files["dicom-seg"].exists()


@pytest.mark.parametrize(
    ("formats", "dims", "words"),
    [
        (["nifty"], 3, "'nifty' is not known"),
        ([], 3, "'none' is not known"),
        (["nifti", "sr"], 3, "ask for dicom-seg"),
        (["nifti", "rtstruct"], 2, "in 2D"),
    ],
)
def test_formats_that_do_not_exist_are_refused(formats: list[str], dims: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        result_files(Path("out"), "case", formats, spatial_dims=dims)
