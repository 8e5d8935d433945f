"""De-identification: nothing that tells is left, geometry and references are."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.absence import report_absence
from volseg.errors import InputError
from volseg.io import read_image
from volseg.pacs import Anonymizer, anonymize_files, read_key

KEY = bytes(range(32))
GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
)


@pytest.fixture
def anonymizer():
    return Anonymizer(KEY)


def by_number(folder):
    datasets = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    return sorted(datasets, key=lambda dataset: int(dataset.InstanceNumber))


def uids_in(dataset):
    """Every UID at any depth, with its keyword."""
    found = set()
    for element in dataset:
        if element.VR == "SQ":
            found = found.union(*(uids_in(item) for item in element.value))
        elif element.VR == "UI":
            values = element.value if element.VM > 1 else [element.value]
            found |= {(element.keyword, str(value)) for value in values}
    return found


def telling_dataset(make_series):
    """A slice with identity in every corner: nested, private, overlay, file meta information."""
    (path,) = make_series(1)
    dataset = pydicom.dcmread(path)
    dataset.InstitutionName = "St. Nowhere"
    dataset.ReferringPhysicianName = "Who^Dr"
    dataset.PatientAddress = "1 Lane"
    dataset.OtherPatientIDs = ["X1", "X2"]
    dataset.DeviceSerialNumber = "SN-123"
    dataset.AcquisitionDateTime = "20260131120000"
    dataset.add_new(0x00091001, "LO", "private Müller")
    dataset.add_new(0x00090010, "LO", "VENDOR")
    dataset.add_new(0x60003000, "OW", b"\x01\x02" * 12)
    dataset.add_new(0x60020010, "US", 4)
    reference = Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = generate_uid()
    reference.PerformingPhysicianName = "Who^Dr"
    reference.add_new(0x00110010, "LO", "VENDOR")
    dataset.SourceImageSequence = [reference]
    context = Dataset()
    context.ScheduledProcedureStepDescription = "for Müller"
    dataset.RequestAttributesSequence = [context]
    dataset.file_meta.SourceApplicationEntityTitle = "CT_ROOM_3"
    dataset.preamble = b"Mueller Aenne".ljust(128, b"\0")
    dataset.save_as(path)
    return path


def test_nothing_that_tells_is_left(make_series, anonymizer, tmp_path):
    path = telling_dataset(make_series)
    original = pydicom.dcmread(path)
    (new_path,) = anonymize_files([path], tmp_path / "out", anonymizer).written
    content = new_path.read_bytes()
    for text in ("ller", "Aenne", "Nowhere", "Who^", "Lane", "X1", "SN-123", "CT_ROOM", "VENDOR"):
        assert text.encode() not in content, text
    assert original.PatientID.encode() not in content
    new = pydicom.dcmread(new_path)
    changed = {
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "FrameOfReferenceUID",
        "ReferencedSOPInstanceUID",
    }
    old_uids, new_uids = uids_in(original), uids_in(new)
    for keyword, uid in old_uids:
        assert ((keyword, uid) in new_uids) == (keyword not in changed)
    assert ("ReferencedSOPInstanceUID", anonymizer.new_uid(_reference(original))) in new_uids
    assert not any(element.tag.is_private or element.tag.group >> 8 == 0x60 for element in new)
    for keyword in ("PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        assert new.get(keyword, "") == ""
    assert new.StudyDate == new.PatientBirthDate == ""
    assert new.AcquisitionDateTime == "19000101000000"
    assert "PatientAddress" not in new
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.PatientIdentityRemoved == "YES"
    assert new.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert new.LongitudinalTemporalInformationModified == "REMOVED"


def _reference(dataset):
    return str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)


def test_elements_that_nobody_can_read_go_and_stop_nothing(make_series, anonymizer, tmp_path):
    paths = make_series(2)
    dataset = pydicom.dcmread(paths[0])
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = generate_uid()
    for place in (dataset, reference):
        place.add_new("AcquisitionDuration", "SH", "1A")
    dataset.SourceImageSequence = [reference]
    dataset.save_as(paths[0])
    tag = bytes.fromhex("18007390")
    # A number of type FD has eight bytes, not two.
    paths[0].write_bytes(paths[0].read_bytes().replace(tag + b"SH", tag + b"FD"))
    done = anonymize_files([paths[0].parent], tmp_path / "out", anonymizer)
    assert (len(done.written), done.refused) == (2, {})
    new = by_number(tmp_path / "out")[0]
    assert _reference(new) == anonymizer.new_uid(str(reference.ReferencedSOPInstanceUID))
    assert "AcquisitionDuration" not in new
    assert "AcquisitionDuration" not in new.SourceImageSequence[0]


def test_geometry_and_pixels_stay_and_the_volume_is_the_same(make_series, anonymizer, tmp_path):
    paths = make_series(6)
    anonymize_files([paths[0].parent], tmp_path / "out", anonymizer)
    for old, new in zip(map(pydicom.dcmread, paths), by_number(tmp_path / "out"), strict=True):
        assert old.PixelData == new.PixelData
        for keyword in GEOMETRY:
            assert old[keyword] == new[keyword]
    (folder,) = (tmp_path / "out").iterdir()
    before, after = read_image(paths[0].parent), read_image(folder)
    assert np.array_equal(before.numpy(), after.numpy())
    assert np.array_equal(before.affine.numpy(), after.affine.numpy())


def test_copies_are_not_anonymized_again(make_series, anonymizer):
    scans = make_series(3)[0].parent
    (scans / "link").symlink_to(scans / "anon")
    first = anonymize_files([scans], scans / "anon", anonymizer)
    again = anonymize_files([scans], scans / "link", anonymizer)
    assert len(first.written) == len(again.written) == 3
    assert len(list((scans / "anon").rglob("*.dcm"))) == 3
    with pytest.raises(InputError, match="give another folder"):
        anonymize_files([scans], scans / "link" / "..", anonymizer)


def test_new_uids_depend_on_key_and_old_uid_only():
    uid = "1.2.840.113619.2.55.3"
    one, same, other = Anonymizer(KEY), Anonymizer(KEY), Anonymizer(KEY[::-1])
    assert one.new_uid(uid) == same.new_uid(uid)
    assert one.new_uid(uid) != other.new_uid(uid)
    assert one.new_uid(uid) != one.new_uid(uid + ".1")
    new = one.new_uid(uid)
    assert new.startswith("2.25.")
    assert pydicom.uid.UID(new).is_valid
    assert len(new) <= 64
    assert one.new_uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert one.new_uid("1.2.840.10008./../doe").startswith("2.25.")


def test_patients_stay_apart_and_studies_of_one_together(make_series, anonymizer):
    def pseudonym(patient, name="Doe"):
        (path,) = make_series(1, PatientID=patient, PatientName=name)
        new = anonymizer.anonymize(pydicom.dcmread(path))
        assert new.PatientName == new.PatientID
        return str(new.PatientID)

    assert pseudonym("4711") == pseudonym("4711", "Roe") != pseudonym("4712")
    assert pseudonym("", "Doe") == pseudonym("", "Doe") != pseudonym("", "Roe")
    assert pseudonym("", "") != pseudonym("", "")


@pytest.mark.data
def test_a_segmentation_still_refers_to_its_images(data_root, anonymizer, tmp_path):
    """References are what dicom-anonymizer alone empties."""
    folder = data_root / "dicom_seg" / "dcmqi_24x38x3"
    inputs = [folder / "image", folder / "label_seg.dcm"]
    done = anonymize_files(inputs, tmp_path, anonymizer)
    assert done.refused == {}
    datasets = [pydicom.dcmread(path) for path in done.written]
    images = {d.SOPInstanceUID for d in datasets if d.Modality == "CT"}
    (seg,) = (d for d in datasets if d.Modality == "SEG")
    original = pydicom.dcmread(folder / "label_seg.dcm")
    assert seg.PixelData == original.PixelData
    found = {uid for keyword, uid in uids_in(seg) if keyword == "ReferencedSOPInstanceUID"}
    assert found == images
    image = next(d for d in datasets if d.Modality == "CT")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID
    assert seg.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [
        s.SegmentNumber for s in original.SegmentSequence
    ]
    frames = zip(
        seg.PerFrameFunctionalGroupsSequence,
        original.PerFrameFunctionalGroupsSequence,
        strict=True,
    )
    for new, old in frames:
        assert new.PlanePositionSequence == old.PlanePositionSequence
        assert new.SegmentIdentificationSequence == old.SegmentIdentificationSequence
    assert not {uid for _, uid in uids_in(original) - uids_in(seg)} & {
        uid for _, uid in uids_in(seg)
    }


def test_reports_keep_codes_and_numbers_and_lose_texts_and_names(make_series, anonymizer):
    (path,) = make_series(1)
    report = pydicom.dcmread(path)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "118565006", "SCT", "Volume"
    number = Dataset()
    number.ValueType, number.ConceptNameCodeSequence = "NUM", [code]
    measured = Dataset()
    measured.NumericValue = "12.5"
    number.MeasuredValueSequence = [measured]
    text = Dataset()
    text.ValueType, text.TextValue = "TEXT", "seen by Müller"
    person = Dataset()
    person.ValueType, person.PersonName = "PNAME", "Who^Dr"
    person.ContentSequence = [text]
    report.ContentSequence = [number, person]
    new = anonymizer.anonymize(report)
    first, second = new.ContentSequence
    assert first.ConceptNameCodeSequence[0].CodeMeaning == "Volume"
    assert first.MeasuredValueSequence[0].NumericValue == 12.5
    assert second.PersonName == "ANONYMIZED"
    assert second.ContentSequence[0].TextValue == "ANONYMIZED"


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"BurnedInAnnotation": "YES"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": "NO"}, False),
        ({"BurnedInAnnotation": "NO"}, False),
        ({}, False),
    ],
)
def test_text_in_pixels_is_refused_unless_vouched_for(make_series, anonymizer, values, refused):
    dataset = pydicom.dcmread(make_series(1)[0])
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if refused:
        with pytest.raises(InputError, match="burnt into|may have it"):
            anonymizer.anonymize(dataset)
        Anonymizer(KEY, pixels_checked=True).anonymize(dataset)
    else:
        anonymizer.anonymize(dataset)


def test_documents_are_refused_even_then(make_series):
    dataset = pydicom.dcmread(make_series(1)[0])
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    with pytest.raises(InputError, match="is a document"):
        Anonymizer(KEY, pixels_checked=True).anonymize(dataset)


def test_name_and_number_go_where_the_profile_does_not_look(make_series, anonymizer):
    """Labels of segments, for example, are free text that table E.1-1 does not list."""
    dataset = pydicom.dcmread(make_series(1)[0])
    segment = Dataset()
    segment.SegmentLabel = f"liver of {dataset.PatientID}"
    segment.SegmentDescription = f"{dataset.PatientID}1 is somebody else"
    dataset.SegmentSequence = [segment]
    dataset.SequenceName = str(dataset.PatientName)
    dataset.add_new("ContextUID", "UI", str(dataset.SeriesInstanceUID))
    description = segment.SegmentDescription
    new = anonymizer.anonymize(dataset)
    assert new.SegmentSequence[0].SegmentLabel == "liver of ANONYMIZED"
    assert new.SegmentSequence[0].SegmentDescription == description
    assert new.SequenceName == "ANONYMIZED"
    assert new.ContextUID == new.SeriesInstanceUID


@pytest.mark.parametrize(
    ("label", "left"),
    [
        ("Jane Doe liver", "ANONYMIZED liver"),
        ("liver of DOE JANE", "liver of ANONYMIZED"),
        ("liver_doe_jane_2", "liver_ANONYMIZED_2"),
        ("Doe, Jane: liver", "ANONYMIZED: liver"),
        ("jane's liver", "ANONYMIZED's liver"),
        ("case ab-77/x", "case ANONYMIZED"),
        ("Janeway lesion of a doe", "Janeway lesion of a doe"),
    ],
)
def test_a_patient_is_found_however_the_name_is_written(make_series, anonymizer, label, left):
    (path,) = make_series(1, PatientName="Doe^Jane", PatientID="AB-77/x")
    dataset = pydicom.dcmread(path)
    segment = Dataset()
    segment.SegmentLabel = label
    dataset.SegmentSequence = [segment]
    assert anonymizer.anonymize(dataset).SegmentSequence[0].SegmentLabel == left


@pytest.mark.parametrize(
    ("label", "left"),
    [
        ("MRN12345678 liver", "MRNANONYMIZED liver"),
        ("liver_12345678b", "liver_ANONYMIZEDb"),
        ("123456789", "123456789"),
    ],
)
def test_a_number_of_digits_is_found_beside_letters(make_series, anonymizer, label, left):
    (path,) = make_series(1, PatientID="12345678")
    dataset = pydicom.dcmread(path)
    segment = Dataset()
    segment.SegmentLabel = label
    dataset.SegmentSequence = [segment]
    assert anonymizer.anonymize(dataset).SegmentSequence[0].SegmentLabel == left


def test_uids_of_instances_are_new_where_the_table_has_no_row(make_series, anonymizer):
    dataset = pydicom.dcmread(make_series(1)[0])
    instances = {
        "RadiopharmaceuticalAdministrationEventUID",
        "SOPInstanceUIDOfConcatenationSource",
        "MultiFrameSourceSOPInstanceUID",
        "VolumeFrameOfReferenceUID",
        "TableFrameOfReferenceUID",
        "TargetFrameOfReferenceUID",
    }
    kinds = {"RelatedGeneralSOPClassUID", "CodingSchemeUID", "AvailableTransferSyntaxUID"}
    item = Dataset()
    for keyword in instances | kinds:
        setattr(item, keyword, generate_uid())
    palette = "1.2.840.10008.1.5.1"  # a well-known instance
    item.ReferencedColorPaletteInstanceUID = palette
    dataset.SharedFunctionalGroupsSequence = [item]
    before = {keyword: str(item[keyword].value) for keyword in instances | kinds}
    (new,) = anonymizer.anonymize(dataset).SharedFunctionalGroupsSequence
    for keyword, uid in before.items():
        expected = anonymizer.new_uid(uid) if keyword in instances else uid
        assert new[keyword].value == expected, keyword
    assert new.ReferencedColorPaletteInstanceUID == palette


@pytest.mark.data
def test_what_others_check_is_as_right_as_before(data_root, tmp_path, anonymizer, request):
    """`dciodvfy` of dicom3tools (Debian) finds no fault that the originals do not have."""
    program = shutil.which("dciodvfy")
    if program is None:
        reason = "dciodvfy is not installed: apt-get install dicom3tools"
        report_absence(request.config, reason)

    def faults(path):
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        return {re.sub(r"[0-9]+(\.[0-9]+)+", "UID", line) for line in lines}

    for name in (
        "dicom_misc/CT_small.dcm",
        "dicom_misc/test-SR.dcm",
        "dicom_seg/dcmqi_24x38x3/label_seg.dcm",
        "dicom_seg/dcmqi_24x38x3/image_multiframe.dcm",
        "dicom_series/enhanced_mr_philips/dicom/1901_WIP_3DpCASL_real.dcm",
    ):
        (new,) = anonymize_files([data_root / name], tmp_path / name, anonymizer).written
        assert faults(new) <= faults(data_root / name), name


@pytest.mark.data
def test_real_files_of_many_kinds(data_root, tmp_path, anonymizer):
    inputs = [data_root / "dicom_series", data_root / "dicom_misc" / "patients"]
    done = anonymize_files(inputs, tmp_path, anonymizer)
    assert len(done.written) > 100
    for path, reason in done.refused.items():
        known = ("is not a whole DICOM instance", "is the same instance", "may have it")
        assert any(words in reason for words in known), (path, reason)
    for path in done.written[::10]:
        dataset = pydicom.dcmread(path)
        assert dataset.PatientIdentityRemoved == "YES"
        assert path.name == f"{dataset.SOPInstanceUID}.dcm"


def test_a_key_is_made_once_for_its_owner(tmp_path):
    place = tmp_path / "new" / "key"
    key = read_key(place)
    assert len(key) == 32
    assert read_key(place) == key
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert read_key(tmp_path / "other") != key
    place.write_text("abc")
    with pytest.raises(InputError, match="does not hold a key"):
        read_key(place)
    with pytest.raises(InputError, match="32 or more"):
        Anonymizer(b"short")
