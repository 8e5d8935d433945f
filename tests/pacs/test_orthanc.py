"""Against a real server: what is stored there is found, fetched and sent back, bit for bit."""

from __future__ import annotations

import io

import pydicom
import pytest

from volseg.errors import InputError, ServerError
from volseg.pacs import (
    SeriesQuery,
    fetch_series,
    find_one_series,
    find_series,
    list_instances,
    push_files,
)


def uids(paths):
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


@pytest.fixture
def stored(orthanc, make_series):
    """Files of a series that Orthanc has, stored without the code under test."""
    paths = make_series()
    for path in paths:
        orthanc.store(path)
    return paths


def the_series(server, paths):
    dataset = pydicom.dcmread(paths[0])
    return find_one_series(server, SeriesQuery(study=dataset.StudyInstanceUID))


def test_echo(server):
    server.echo()


def test_a_series_is_found_with_what_the_server_knows(server, stored):
    dataset = pydicom.dcmread(stored[0])
    found = the_series(server, stored)
    assert (found.study, found.series) == (dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    assert (found.patient, found.name) == (dataset.PatientID, "Müller^Änne")
    assert (found.date, found.accession) == ("20260131", "A77")
    assert (found.modality, found.description, found.instances) == ("CT", "thorax", 5)


def test_conditions_select(server, stored):
    dataset = pydicom.dcmread(stored[0])
    patient = str(dataset.PatientID)
    for query in (
        SeriesQuery(patient=patient),
        SeriesQuery(patient=patient[:-1] + "*", date="20260101-20260131"),
        SeriesQuery(patient=patient, name="Müller^Änne"),
        SeriesQuery(patient=patient, name="Müller*", modality="CT", description="thor*"),
        SeriesQuery(series=str(dataset.SeriesInstanceUID)),
        SeriesQuery(patient=patient, accession="A77", date="20260131"),
    ):
        assert [one.series for one in find_series(server, query)] == [dataset.SeriesInstanceUID]
    for query in (
        SeriesQuery(patient=patient, modality="MR"),
        SeriesQuery(patient=patient, description="abdomen"),
        SeriesQuery(patient=patient, date="20260201-"),
        SeriesQuery(patient=patient, name="Möller*"),
        SeriesQuery(series="1.2.3.4"),
    ):
        assert find_series(server, query) == []


def test_several_series_are_listed_never_guessed(server, orthanc, stored, make_series):
    first = pydicom.dcmread(stored[0])
    others = make_series(2, StudyInstanceUID=first.StudyInstanceUID, SeriesDescription="scout")
    for path in others:
        orthanc.store(path)
    with pytest.raises(InputError, match=r"several series.*'thorax'.*'scout'|'scout'.*'thorax'"):
        the_series(server, stored)
    with pytest.raises(InputError, match="no series that meets"):
        find_one_series(server, SeriesQuery(study="1.2.3"))


def test_fetched_files_equal_the_stored_ones(server, stored, tmp_path):
    steps = []
    paths = fetch_series(
        server,
        the_series(server, stored),
        tmp_path / "out",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{uid}.dcm" for uid in uids(stored)
    )
    assert steps == [(number, 5) for number in range(6)]
    sent = {uid: pydicom.dcmread(path) for uid, path in zip(uids(stored), stored, strict=True)}
    for path in paths:
        got = pydicom.dcmread(path)
        assert got == sent[got.SOPInstanceUID]
        assert got.PixelData == sent[got.SOPInstanceUID].PixelData
        assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


@pytest.mark.data
@pytest.mark.parametrize("name", ["mr_sagittal_jpegls", "mr_sagittal_rle"])
def test_compressed_series_come_as_they_are_stored(server, orthanc, data_root, tmp_path, name):
    originals = {}
    for path in sorted((data_root / "dicom_series" / name / "dicom").iterdir()):
        orthanc.store(path)
        dataset = pydicom.dcmread(path)
        originals[dataset.SOPInstanceUID] = dataset
    query = SeriesQuery(series=str(next(iter(originals.values())).SeriesInstanceUID))
    paths = fetch_series(server, find_one_series(server, query), tmp_path)
    assert len(paths) == len(originals)
    for path in paths:
        got = pydicom.dcmread(path)
        original = originals[got.SOPInstanceUID]
        assert got.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert got.PixelData == original.PixelData


def test_an_interrupted_fetch_goes_on(server, stored, tmp_path):
    series = the_series(server, stored)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_series(server, series, tmp_path, progress=stop)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.dcm")}
    assert len(there) == 2
    assert [path.name for path in tmp_path.glob(".*")] == []
    steps = []
    fetch_series(server, series, tmp_path, progress=lambda done, total: steps.append(done))
    assert steps == [2, 3, 4, 5]
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert len(list(tmp_path.glob("*.dcm"))) == 5


def test_files_that_are_not_whole_are_fetched_again(server, stored, tmp_path):
    series = the_series(server, stored)
    paths = fetch_series(server, series, tmp_path)
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(whole[0][:-7])
    paths[1].write_bytes(b"")
    paths[2].write_bytes(whole[3])
    steps = []
    fetch_series(server, series, tmp_path, progress=lambda done, total: steps.append(done))
    assert steps == [2, 3, 4, 5]
    assert [path.read_bytes() for path in paths] == whole


def test_pushed_files_are_there_and_are_sent_once(server, orthanc, make_series):
    paths = make_series(3)
    steps = []
    pushed = push_files(server, paths, progress=lambda done, total: steps.append((done, total)))
    assert [instance.uid for instance in pushed.sent] == uids(paths)
    assert pushed.already_there == ()
    assert steps == [(number, 3) for number in range(4)]
    for uid, path in zip(uids(paths), paths, strict=True):
        there = pydicom.dcmread(io.BytesIO(orthanc.stored(uid)))
        assert there == pydicom.dcmread(path)
    again = push_files(server, [paths[0].parent])
    assert again.sent == ()
    assert [instance.uid for instance in again.already_there] == uids(paths)
    assert len(push_files(server, paths[:1], again=True).sent) == 1
    dataset = pydicom.dcmread(paths[0])
    listed = list_instances(server, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    assert {instance.uid for instance in listed} == set(uids(paths))


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "dicom_seg/highdicom/seg_image_ct_binary.dcm",
        "dicom_seg/dcmqi_24x38x3/label_seg.dcm",
        "dicom_misc/test-SR.dcm",
        "dicom_misc/MR_small_jp2klossless.dcm",
        "dicom_misc/MR_small_RLE.dcm",
    ],
)
def test_objects_of_any_kind_are_pushed_and_found(server, orthanc, data_root, name):
    path = data_root / name
    original = pydicom.dcmread(path)
    push_files(server, [path], again=True)
    there = pydicom.dcmread(io.BytesIO(orthanc.stored(original.SOPInstanceUID)))
    assert [(element.tag, element.value) for element in there] == [
        (element.tag, element.value) for element in original
    ]
    assert there.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    query = SeriesQuery(study=original.StudyInstanceUID, series=original.SeriesInstanceUID)
    assert find_one_series(server, query).modality == original.Modality


def test_nothing_is_sent_where_a_file_is_damaged(server, orthanc, make_series, tmp_path):
    paths = make_series(2)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    with pytest.raises(InputError, match=r"nothing was sent: .*001\.dcm: it ends within"):
        push_files(server, paths)
    assert orthanc.stored(uids(paths[:1])[0]) is None
    (tmp_path / "note.txt").write_text("not DICOM")
    with pytest.raises(InputError, match=r"note\.txt is not a DICOM file"):
        push_files(server, [tmp_path / "note.txt"])


def test_a_series_that_is_gone_is_a_sentence(server, stored, tmp_path):
    series = the_series(server, stored)
    gone = type(series)(series.study, "1.2.3.4")
    with pytest.raises(ServerError, match=r"lists no instance of the series 1\.2\.3\.4"):
        fetch_series(server, gone, tmp_path)


def test_a_search_stops_when_it_has_enough(server, orthanc, make_series):
    accession = f"A{orthanc.dicom_port}"
    for _ in range(3):
        orthanc.store(make_series(1, AccessionNumber=accession)[0])
    query = SeriesQuery(accession=accession)
    assert len(find_series(server, query, limit=2)) == 2
    assert len(find_series(server, query)) >= 3
    server.echo()
