"""Series in folders as people have them: nested, mixed, damaged, copied."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from volseg.errors import GeometryError, InputError
from volseg.io import read_image
from volseg.io.dicom import find_series, open_series, survey


def edit(path: Path, **tags: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def test_frames_come_in_the_order_of_the_volume(synthetic: Any, tmp_path: Path) -> None:
    series = synthetic(turn=np.diag([-1.0, 1.0, -1.0]), shear=(0.0, 0.4))
    truth = series.write(tmp_path)
    opened = open_series(tmp_path)
    assert opened.grid.shape == truth.values.shape[1:]
    assert opened.grid.affine.is_close(truth.affine, 1e-6)
    assert opened.series.uid == "1.2.3.4"
    (frames,) = opened.frames
    assert [list(frame.position) for frame in frames] == [series.position(k) for k in range(6)]
    (datasets,) = opened.datasets()
    assert [dataset.SOPInstanceUID for dataset in datasets] == [
        f"1.2.3.6.0.{k + 1}" for k in range(6)
    ]
    assert "PixelData" not in datasets[0]
    assert [frame.sop_instance_uid for frame in frames] == [d.SOPInstanceUID for d in datasets]


def test_frames_of_one_file_share_its_data_set(synthetic: Any, tmp_path: Path) -> None:
    synthetic(is_multi_frame=True).write(tmp_path)
    opened = open_series(tmp_path / "multi")
    (datasets,) = opened.datasets()
    assert len(datasets) == 6
    assert all(dataset is datasets[0] for dataset in datasets)
    # Frames were written shuffled: their numbers say where each slice lies in the file.
    groups = datasets[0].PerFrameFunctionalGroupsSequence
    for frame in opened.frames[0]:
        stated = groups[frame.number].PlanePositionSequence[0].ImagePositionPatient
        assert list(frame.position) == [float(value) for value in stated]


def test_linked_folders_are_searched(synthetic: Any, tmp_path: Path) -> None:
    synthetic().write(tmp_path / "archive")
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "series").symlink_to(tmp_path / "archive")
    (series,) = find_series(tmp_path / "patient")
    assert series.file_count == 6


def test_every_file_that_is_not_used_is_named(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic().write(tmp_path / "a" / "b")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "a/b/0000").read_bytes()[:200])
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    report = pydicom.dcmread(tmp_path / "a/b/0000")
    for name in ("Rows", "Columns", "PhotometricInterpretation", "PixelData"):
        delattr(report, name)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SeriesInstanceUID = "1.2.9"
    report.save_as(tmp_path / "report")
    found = survey(tmp_path)
    reasons = {file.path.name: file.reason for file in found.unused}
    assert reasons["notes.txt"] == "not a DICOM file"
    assert reasons["empty"] == "an empty file"
    assert reasons["report"] == "no image: Comprehensive SR"
    assert reasons["cut.dcm"] == "a DICOM file that ends before it says what it is"
    assert "cannot be opened" in reasons["broken"]
    assert {file.path.name for file in found.damaged} == {"cut.dcm", "broken"}
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_damaged_files_are_spoken_of(
    synthetic: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic().write(tmp_path)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "0000").read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        opened = open_series(tmp_path)
    assert any("cut.dcm is not used" in note for note in opened.notes)
    assert "cut.dcm is not used" in caplog.text


def test_a_damaged_file_of_the_series_is_not_passed_over(synthetic: Any, tmp_path: Path) -> None:
    synthetic(seed=3).write(tmp_path)
    # The last slice in space: without it the rest would be a perfect stack.
    last = max(tmp_path.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    whole = last.read_bytes()
    dataset = pydicom.dcmread(last)
    del dataset.PixelData
    dataset.save_as(last)
    with pytest.raises(InputError, match=f"{last.name}, a file of the series, is an image without"):
        read_image(tmp_path)
    last.write_bytes(whole[:-7])
    with pytest.raises(InputError, match=f"{last.name}.*cut short, it has 33 bytes.*expected 40"):
        read_image(tmp_path)
    last.unlink()
    assert read_image(tmp_path).shape[3] == 5


@pytest.mark.parametrize(
    ("syntax", "count"),
    [("explicit", -1), ("explicit", 2), ("RLE", 300_000), ("deflated", 2**31 - 1)],
)
def test_frames_that_cannot_be_there_are_damage(
    synthetic: Any, tmp_path: Path, syntax: str, count: int
) -> None:
    synthetic(seed=3, syntax=syntax).write(tmp_path)
    last = max(tmp_path.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    edit(last, NumberOfFrames=count)
    with pytest.raises(InputError, match=f"{last.name}, a file of the series, .*{count} frames"):
        read_image(tmp_path)


@pytest.mark.parametrize(("frame_bytes", "series"), [(48, [4]), (47, [])])
def test_frames_whose_pixels_share_their_colours_are_there(
    synthetic: Any, tmp_path: Path, frame_bytes: int, series: list[int]
) -> None:
    """As those of uncompressed clips of ultrasound, of two bytes a pixel."""
    synthetic(shape=(6, 4, 1), kind="uint8").write(tmp_path)
    edit(
        tmp_path / "0000",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="YBR_FULL_422",
        NumberOfFrames=4,
        PixelData=bytes(4 * frame_bytes),
    )
    found = survey(tmp_path)
    assert [len(one.frames) for one in found.series] == series
    assert bool(found.damaged) == (not series)


@pytest.mark.parametrize("name", ["InstanceNumber", "SeriesNumber", "EchoTime", "Rows"])
def test_a_value_of_the_wrong_type_stops_no_other_file(
    synthetic: Any, tmp_path: Path, name: str
) -> None:
    tags = {"SeriesNumber": "12", "EchoTime": "12", "InstanceNumber": "12"}
    synthetic(tags=tags, shape=(257, 4, 2)).write(tmp_path / "bad")
    truth = synthetic(tags={"SeriesInstanceUID": "1.2.9"}, seed=7).write(tmp_path / "good")
    for file in (tmp_path / "bad").iterdir():
        tag = pydicom.datadict.tag_for_keyword(name)
        head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
        whole = file.read_bytes()
        place = whole.index(head + pydicom.datadict.dictionary_VR(tag).encode())
        file.write_bytes(whole[: place + 8] + b"?!" + whole[place + 10 :])
    np.testing.assert_array_equal(read_image(tmp_path, series="1.2.9").numpy(), truth.values)


def test_copies_are_used_once(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic().write(tmp_path / "in")
    shutil.copy(tmp_path / "in" / "0002", tmp_path / "again")
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)
    (series,) = find_series(tmp_path)
    assert [file.reason for file in series.unused] == [f"a copy of {tmp_path}/again"]
    edit(tmp_path / "again", InstanceNumber=77)
    with pytest.raises(GeometryError, match="equally often at every position"):
        read_image(tmp_path)


def test_several_series_are_listed_and_chosen_by_uid(synthetic: Any, tmp_path: Path) -> None:
    first = synthetic(tags={"SeriesInstanceUID": "1.2.1", "SeriesDescription": "lung"})
    second = synthetic(
        tags={"SeriesInstanceUID": "1.2.2", "SOPInstanceUID": "1.2.5"}, seed=5, shape=(7, 8, 3)
    )
    truths = [first.write(tmp_path / "x"), second.write(tmp_path / "y")]
    with pytest.raises(InputError, match=r"2 DICOM series.*CT 'lung', 6 slices \(1.2.1\).*1.2.2"):
        read_image(tmp_path)
    for uid, truth in zip(("1.2.1", "1.2.2"), truths, strict=True):
        image = read_image(tmp_path, series=uid)
        np.testing.assert_array_equal(image.numpy(), truth.values)
        assert image.meta["series_instance_uid"] == uid
    with pytest.raises(InputError, match=r"no series with the UID '1.2.9'; it holds CT 'lung'"):
        read_image(tmp_path, series="1.2.9")


def test_compressed_files_that_are_cut_short_are_named(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(shape=(64, 48, 5), syntax="JPEG 2000").write(tmp_path)
    file = sorted(tmp_path.iterdir())[2]
    whole = file.read_bytes()
    # Decoders make a picture of it without a word.
    file.write_bytes(whole[:-2000])
    with pytest.raises(InputError, match=f"{file.name}: the file is cut short.*no end"):
        read_image(tmp_path)
    dataset = pydicom.dcmread(tmp_path / sorted(tmp_path.iterdir())[1])
    file.write_bytes(whole)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(10))  # padding after the pixels
    dataset.save_as(sorted(tmp_path.iterdir())[1])
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_a_series_of_nothing_but_localizers_is_no_volume(synthetic: Any, tmp_path: Path) -> None:
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    synthetic(tags=tags).write(tmp_path / "axial")
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    synthetic(turn=turn, tags=tags, shape=(5, 4, 5), seed=8).write(tmp_path / "coronal")
    with pytest.raises(GeometryError, match="differ in ImageOrientationPatient"):
        read_image(tmp_path)


def test_a_localizer_like_the_slices_is_set_aside(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic().write(tmp_path / "slices")
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    synthetic(tags=tags, shape=(5, 4, 1), seed=8).write(tmp_path / "scout")
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


@pytest.mark.parametrize("word", ["LOCALIZER", "AXIAL"])
def test_scouts_within_a_series_are_set_aside(
    synthetic: Any, tmp_path: Path, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    truth = synthetic(shape=(5, 4, 8)).write(tmp_path / "slices")
    scout = synthetic(
        shape=(5, 4, 2),
        turn=np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        tags={"ImageType": ["ORIGINAL", "PRIMARY", word]},
        seed=8,
    )
    scout.write(tmp_path / "scout")
    with caplog.at_level(logging.WARNING):
        image = read_image(tmp_path)
    np.testing.assert_array_equal(image.numpy(), truth.values)
    assert caplog.text.count("set aside") == 2


def test_two_stacks_in_a_series_are_refused(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(5, 4, 8)).write(tmp_path / "axial")
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    synthetic(shape=(5, 4, 5), turn=turn, seed=8).write(tmp_path / "coronal")
    with pytest.raises(GeometryError, match="differ in ImageOrientationPatient"):
        read_image(tmp_path)


def test_a_picture_in_the_series_is_set_aside_a_slice_without_place_is_not(
    synthetic: Any, tmp_path: Path
) -> None:
    truth = synthetic().write(tmp_path / "slices")
    synthetic(shape=(9, 9, 1), seed=9).write(tmp_path / "picture")
    picture = tmp_path / "picture" / "0000"
    edit(picture, ImagePositionPatient=None, ImageOrientationPatient=None)
    with pytest.raises(GeometryError, match="no ImagePositionPatient"):
        read_image(tmp_path)
    edit(picture, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_mosaics_and_segmentations_are_refused(synthetic: Any, tmp_path: Path) -> None:
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}
    synthetic(tags=tags).write(tmp_path / "mosaic")
    with pytest.raises(InputError, match="mosaic"):
        read_image(tmp_path / "mosaic")
    tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}
    synthetic(is_multi_frame=True, tags=tags).write(tmp_path / "seg")
    with pytest.raises(InputError, match="a segmentation"):
        read_image(tmp_path / "seg")


def test_a_segmentation_beside_its_images_is_no_second_choice(
    synthetic: Any, tmp_path: Path
) -> None:
    truth = synthetic().write(tmp_path / "ct")
    tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "SeriesInstanceUID": "1.2.8"}
    synthetic(is_multi_frame=True, tags=tags, seed=4).write(tmp_path / "seg")
    assert [series.uid for series in find_series(tmp_path)] == ["1.2.3.4", "1.2.8"]
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


@pytest.mark.parametrize("in_small_letters", [False, True])
def test_a_dicomdir_stands_for_its_folder_and_names_what_is_missing(
    synthetic: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, in_small_letters: bool
) -> None:
    series = synthetic(vary=lambda time, number: {"PatientID": "1", "PatientName": "A"})
    truth = series.write(tmp_path / "in")
    disc = FileSet()
    for file in sorted((tmp_path / "in").iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200101", "120000", "1"
        dataset.SeriesNumber = 1
        disc.add(dataset)
    disc.write(tmp_path / "disc")
    disc._stage["t"].cleanup()  # left to the garbage collector, it warns
    directory = tmp_path / "disc" / "DICOMDIR"
    if in_small_letters:  # as Linux shows those of ISO 9660
        # What is in folders comes first.
        for path in sorted((tmp_path / "disc").rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.lower()))
        directory = directory.with_name("dicomdir")
    with caplog.at_level(logging.WARNING):
        for path in (tmp_path / "disc", directory):
            np.testing.assert_array_equal(read_image(path).numpy(), truth.values)
    assert "is not used" not in caplog.text
    assert not find_series(tmp_path / "disc")[0].unused
    files = [path for path in (tmp_path / "disc").rglob("*") if path.is_file()]
    slices = [path for path in files if path != directory]
    highest = max(slices, key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    highest.unlink()
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "disc").shape[3] == 5
    (missing,) = survey(tmp_path / "disc").damaged
    assert str(missing.path).casefold() == str(highest).casefold()
    assert f"{missing.path} is not used: named by" in caplog.text
    assert caplog.text.count("is not used") == 1


def test_a_single_slice_needs_its_neighbours(synthetic: Any, tmp_path: Path) -> None:
    synthetic().write(tmp_path)
    with pytest.raises(GeometryError, match=r"single slice.*give the whole series"):
        read_image(tmp_path / "0003")


@pytest.mark.data
def test_odd_files_do_not_stop_the_others(data_root: Path) -> None:
    found = survey(data_root / "dicom_misc")
    assert len(found.series) == 17
    assert {file.path.name for file in found.unused} == {
        "README.md",
        "meta_missing_tsyntax.dcm",
        "no_meta.dcm",
        "rtstruct.dcm",
        "test-SR.dcm",
    }
    scan = next(series for series in found.series if series.description.startswith("SmartScore"))
    assert read_image(data_root / "dicom_misc", series=scan.uid).shape == (1, 16, 16, 5)


def test_a_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("hello")
    with pytest.raises(InputError, match="no DICOM image"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        find_series(tmp_path / "absent")


@pytest.mark.parametrize("installed", [True, False])
def test_images_of_other_formats_are_named_where_dicom_is_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    image = tmp_path / "sub-01" / "anat" / "T1w.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch()
    (tmp_path / "README").write_text("hello")
    if not installed:
        monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=f"no DICOM image; it holds image files such as {image}"):
        read_image(tmp_path)


def test_a_series_that_is_no_image_is_not_read_as_one(synthetic: Any, tmp_path: Path) -> None:
    synthetic().write(tmp_path / "ct")
    tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7", "SeriesInstanceUID": "1.2.8"}
    synthetic(is_multi_frame=True, tags=tags, seed=4).write(tmp_path / "seg")
    with pytest.raises(InputError, match=r"1\.2\.8 is a segmentation \(DICOM SEG\) and no image"):
        read_image(tmp_path, series="1.2.8")
