"""The scripts for clinical research, as they are called, on cases whose truth is known."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import shutil
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

import cohort_statistics
import dicom_to_datalist
import inter_reader_agreement
import longitudinal_change
from research_tables import StructureVolume, map_volumes
from volseg.cohort import read_manifest
from volseg.errors import InputError
from volseg.io import as_image, convert_file, read_image, write_segmentation


def run(script, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
    script.main()


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, names, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
    return path


def drawn(path):
    """Whether a plot is there, and is no empty sheet."""
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("L")))) > 10


def write_boxes(folder, volumes):
    """Write label maps with a box of so many voxels of 0.1 mL, by case."""
    affine = np.diag([-5.0, -5.0, 4.0, 1.0])
    for case, number in volumes.items():
        labels = np.zeros((20, 20, 10), np.uint8)
        labels.reshape(-1)[:number] = 1
        image = as_image(labels.astype(np.float32), affine)
        write_segmentation(labels, folder / f"{case}_seg.nii.gz", like=image)


def write_series(folder, series, places, **values):
    """Write slices of an axial CT series, 2 mm for each step of their places."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in places:
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        uid = f"{series}.{place + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, f"{series}.100"
        dataset.FrameOfReferenceUID = f"{series}.101"
        dataset.Modality, dataset.InstanceNumber = "CT", place + 1
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "7"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient = [0, 0, 2 * place]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [1, 1]
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 5, 1
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = np.full((4, 5), 100 * place, np.int16).tobytes()
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{place:03}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.parametrize(
    "script", [cohort_statistics, dicom_to_datalist, inter_reader_agreement, longitudinal_change]
)
def test_help_says_what_a_script_does(script, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(script, monkeypatch, "--help")
    said = capsys.readouterr().out
    assert f"python scripts/{script.__name__}.py" in said


def test_statistics_of_groups_by_patient(tmp_path, monkeypatch, capsys):
    sizes = {"a1": 100, "a2": 140, "b": 110, "c": 130, "d": 200, "e": 220, "f": 240}
    write_boxes(tmp_path / "maps", sizes)
    groups = [["a1", "a", "control"], ["a2", "a", "control"], ["b", "b", "control"]]
    groups += [["c", "c", "control"], *([one, one, "patient"] for one in "def")]
    table = write_rows(tmp_path / "groups.csv", ["case", "patient", "group"], groups)
    words = [tmp_path / "maps", table, "-o", tmp_path / "out", "--labels", "liver=1"]
    run(cohort_statistics, monkeypatch, *words)
    control, patient = rows_of(tmp_path / "out" / "groups.csv")
    # a counts once, with the mean of 100 and 140 voxels.
    assert (control["patients"], float(control["mean_ml"])) == ("3", 12.0)
    assert (patient["patients"], float(patient["mean_ml"])) == ("3", 22.0)
    (row,) = rows_of(tmp_path / "out" / "comparisons.csv")
    assert float(row["difference_ml"]) == 10.0
    assert float(row["low_ml"]) > 5
    assert (row["group"], row["reference"]) == ("patient", "control")
    assert "patient is +10.000 mL" in capsys.readouterr().out
    assert drawn(tmp_path / "out" / "volumes.png")
    run(cohort_statistics, monkeypatch, *words, "--reference", "patient")
    assert float(rows_of(tmp_path / "out" / "comparisons.csv")[0]["difference_ml"]) == -10.0
    for more, sentence in (
        (["--paired"], "not of the same patients"),
        (["--reference", "nobody"], "no group 'nobody'"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            run(cohort_statistics, monkeypatch, *words, *more)
    write_rows(table, ["case", "patient", "group"], [*groups, ["d", "d", "control"]])
    with pytest.raises(SystemExit, match="two rows of the case d"):
        run(cohort_statistics, monkeypatch, *words)
    write_rows(table, ["case", "patient", "group"], [*groups, ["z", "z", "patient"]])
    with pytest.raises(SystemExit, match=r"1 cases of .* have no volume \(first: z\)"):
        run(cohort_statistics, monkeypatch, *words)


def test_records_need_no_names_of_labels(tiny_bundle, tmp_path, monkeypatch):
    from volseg.segmenter import Segmenter, result_files, segment_to_files

    segmenter = Segmenter(tiny_bundle)
    data = tiny_bundle.parent / "data"
    for index in range(4):
        files = result_files(tmp_path / "out", f"ball{index}", ["nifti"], spatial_dims=3)
        record = segment_to_files(
            segmenter, data / "images" / f"ball{index}.nii.gz", files, case=f"ball{index}"
        )
        record.write(tmp_path / "out" / f"ball{index}_record.json")
    rows = [[f"ball{index}", f"p{index % 2}", "ab"[index // 2]] for index in range(4)]
    table = write_rows(tmp_path / "groups.csv", ["case", "patient", "group"], rows)
    words = [tmp_path / "out", table, "-o", tmp_path / "statistics", "--paired"]
    run(cohort_statistics, monkeypatch, *words)
    found = rows_of(tmp_path / "statistics" / "groups.csv")
    assert [row["structure"] for row in found] == ["anterior"] * 2 + ["posterior"] * 2
    labels = [read_image(tmp_path / "out" / f"ball{n}_seg.nii.gz").numpy() for n in (0, 1)]
    voxels = np.mean([(one == 1).sum() for one in labels])
    assert float(found[0]["mean_ml"]) == pytest.approx(voxels / 1000, rel=1e-5)
    run(cohort_statistics, monkeypatch, *words, "--labels", "anterior=1")
    (row, _) = rows_of(tmp_path / "statistics" / "groups.csv")
    assert row == found[0]
    for wrong in ("Anterior=1", "anterior=7"):
        with pytest.raises(SystemExit, match=f"no label {wrong}: .* anterior=1,posterior=2"):
            run(cohort_statistics, monkeypatch, *words, "--labels", wrong)


def test_a_structure_that_a_group_lacks_is_named(tmp_path):
    table = write_rows(
        tmp_path / "groups.csv",
        ["case", "patient", "group"],
        [["a", "a", "control"], ["b", "b", "patient"]],
    )
    volumes = [StructureVolume("a", "liver", 1.0), StructureVolume("b", "spleen", 1.0)]
    with pytest.raises(InputError, match="group patient in .* has a volume of liver"):
        cohort_statistics.grouped(volumes, table, None)


def test_two_files_of_one_case_are_no_two_measurements(tmp_path):
    write_boxes(tmp_path, {"a": 100})
    (found,) = map_volumes(tmp_path, {"liver": 1})
    assert (found.case, found.ml) == ("a", pytest.approx(10.0))
    shutil.copy(tmp_path / "a_seg.nii.gz", tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii\.gz and .*a_seg\.nii\.gz are both called a"):
        map_volumes(tmp_path, {"liver": 1})


def test_pictures_of_readers_have_no_volume(tmp_path, monkeypatch):
    for reader in ("first", "second"):
        (tmp_path / reader).mkdir()
        Image.fromarray(np.eye(6, dtype=np.uint8)).save(tmp_path / reader / "a.png")
    words = [tmp_path / "first", tmp_path / "second", "-o", tmp_path / "out"]
    with pytest.raises(SystemExit, match="the case a of first and second is a picture"):
        run(inter_reader_agreement, monkeypatch, *words, "--labels", "cell=1")


def test_the_help_needs_no_package_that_may_be_missing(tmp_path, monkeypatch):
    (tmp_path / "slice").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    importlib.reload(dicom_to_datalist)
    with pytest.raises(SystemExit, match=r'-m pip install "volseg\[dicom\]"$'):
        run(dicom_to_datalist, monkeypatch, tmp_path, tmp_path / "dataset")


def test_readers_keep_the_names_of_their_links(tmp_path):
    (tmp_path / "v7").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "v7")
    readers = inter_reader_agreement.named_readers([tmp_path / "a", tmp_path / "b"])
    assert list(readers) == ["a", "b"]


@pytest.mark.data
def test_readers_who_are_known_to_differ(data_root, tmp_path, monkeypatch, capsys):
    """One outlines a voxel further, one is a voxel aside, one is the first again."""
    folder = data_root / "msd_hippocampus" / "labels"
    truth = sorted(folder.glob("*.nii.gz"))[:6]
    expected = {"dice": [], "growth_ml": []}
    for path in truth:
        image = read_image(path)
        labels = (image.numpy()[0] > 0).astype(np.uint8)
        labels = np.pad(labels[3:-3, 3:-3, 3:-3], 3)  # so that none leaves the image
        grown = ndimage.binary_dilation(labels, ndimage.generate_binary_structure(3, 1))
        aside = np.roll(labels, 1, axis=0)
        readers = {"first": labels, "again": labels, "generous": grown, "aside": aside}
        for reader, drawn_labels in readers.items():
            target = tmp_path / reader / path.name
            write_segmentation(drawn_labels.astype(np.uint8), target, like=image)
        expected["dice"].append(2 * (labels & aside).sum() / (2 * labels.sum()))
        expected["growth_ml"].append((grown.sum() - labels.sum()) / 1000)
    folders = [tmp_path / reader for reader in readers]
    words = [*folders, "-o", tmp_path / "out", "--labels", "hippocampus=1"]
    run(inter_reader_agreement, monkeypatch, *words)
    pairs = {(row["first"], row["second"]): row for row in rows_of(tmp_path / "out" / "pairs.csv")}
    assert len(pairs) == 6
    again = pairs["first", "again"]
    assert [float(again[name]) for name in ("dice", "surface_dice", "bias_ml", "upper_ml")] == [
        *(1.0, 1.0, 0.0, 0.0)
    ]
    generous = pairs["first", "generous"]
    assert float(generous["bias_ml"]) == pytest.approx(np.mean(expected["growth_ml"]), rel=1e-4)
    spread = 1.96 * np.std(expected["growth_ml"], ddof=1)
    assert float(generous["upper_ml"]) - float(generous["bias_ml"]) == pytest.approx(spread, 1e-3)
    assert 0.95 < float(generous["surface_dice"]) < 1  # a voxel is a millimetre
    aside = pairs["first", "aside"]
    assert float(aside["dice"]) == pytest.approx(np.mean(expected["dice"]), abs=1e-5)
    assert (float(aside["bias_ml"]), float(aside["hausdorff95_mm"])) == (0.0, 1.0)
    (correlation,) = rows_of(tmp_path / "out" / "correlation.csv")
    assert (correlation["cases"], correlation["readers"]) == ("6", "4")
    assert 0 < float(correlation["icc_2_1"]) < 0.9  # the generous one is far from the others
    assert len(rows_of(tmp_path / "out" / "cases.csv")) == 36
    assert drawn(tmp_path / "out" / "bland_altman.png")
    assert "first and aside, hippocampus: Dice" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="two or more folders"):
        run(inter_reader_agreement, monkeypatch, folders[0], *words[4:])


def test_change_beside_the_measurement_error(tmp_path, monkeypatch, capsys):
    sizes = {"a_0": 1000, "a_0_again": 1010, "a_1": 800, "b_0": 500, "b_1": 505, "c_0": 300}
    write_boxes(tmp_path / "maps", sizes)
    days = {"a_0": "2020-01-01", "a_0_again": "2020-01-01", "a_1": "2022-01-01"}
    days |= {"b_0": "2020-06-01", "b_1": "2021-06-01", "c_0": "2020-01-01"}
    rows = [[case, case[0], day] for case, day in days.items()]
    table = write_rows(tmp_path / "dates.csv", ["case", "patient", "date"], rows)
    words = [tmp_path / "maps", table, "-o", tmp_path / "out", "--labels", "liver=1"]
    run(longitudinal_change, monkeypatch, *words)
    a, b = rows_of(tmp_path / "out" / "change.csv")
    assert (a["patient"], a["days"], float(a["first_ml"])) == ("a", "2", 100.5)
    assert float(a["change_ml"]) == -20.5
    assert float(a["annual_percent"]) == pytest.approx(-100 * 20.5 / 100.5 / 2.0, rel=0.002)
    # Two repeats 1 mL apart: 1.96 x sqrt(2) x 1 / sqrt(2).
    assert float(a["smallest_detectable_ml"]) == pytest.approx(1.96, abs=0.001)
    assert (a["beyond_error"], b["beyond_error"]) == ("True", "False")
    (row,) = rows_of(tmp_path / "out" / "summary.csv")
    assert (row["patients"], row["beyond_error"]) == ("2", "1")
    assert "% a year" in capsys.readouterr().out
    assert drawn(tmp_path / "out" / "change.png")
    run(longitudinal_change, monkeypatch, *words, "--smallest-detectable", "0.1")
    assert rows_of(tmp_path / "out" / "change.csv")[1]["beyond_error"] == "True"
    write_rows(table, ["case", "patient", "date"], [["a_0", "a", "1.1.2020"]])
    with pytest.raises(SystemExit, match="expected a day such as 2024-05-17"):
        run(longitudinal_change, monkeypatch, *words)
    write_rows(table, ["case", "patient", "date"], rows[-1:])
    with pytest.raises(SystemExit, match="no patient has cases on two days"):
        run(longitudinal_change, monkeypatch, *words)


def test_patients_without_the_structure_on_the_first_day_have_no_percent(tmp_path, monkeypatch):
    write_boxes(tmp_path / "maps", {"a_0": 1000, "a_1": 800, "d_0": 0, "d_1": 100})
    days = {"a_0": "2020-01-01", "a_1": "2021-01-01", "d_0": "2020-01-01", "d_1": "2021-01-01"}
    rows = [[case, case[0], day] for case, day in days.items()]
    table = write_rows(tmp_path / "dates.csv", ["case", "patient", "date"], rows)
    words = [tmp_path / "maps", table, "-o", tmp_path / "out", "--labels", "liver=1"]
    run(longitudinal_change, monkeypatch, *words)
    a, d = rows_of(tmp_path / "out" / "change.csv")
    assert (d["patient"], float(d["change_ml"]), d["annual_percent"]) == ("d", 10.0, "")
    (row,) = rows_of(tmp_path / "out" / "summary.csv")
    assert (row["patients"], row["annual_percent"]) == ("1", a["annual_percent"])
    # Without repeats nobody knows who is beyond the error: it is not that nobody is.
    assert (row["smallest_detectable_ml"], row["beyond_error"]) == ("", "")
    write_rows(table, ["case", "patient", "date"], rows[2:])
    run(longitudinal_change, monkeypatch, *words)
    (row,) = rows_of(tmp_path / "out" / "summary.csv")
    assert (row["patients"], row["annual_percent"]) == ("0", "")


@pytest.mark.parametrize(
    ("before", "later", "words"),
    [
        (range(5), range(5, 8), []),
        ((0, 1, 2, 4, 5), (6, 7), ["--irregular", "resample"]),
    ],
)
def test_a_series_that_was_still_arriving_is_converted_anew(
    tmp_path, monkeypatch, before, later, words
):
    tree = write_series(tmp_path / "archive", "1.2.7", before)
    words = [tree, tmp_path / "dataset", *words]
    run(dicom_to_datalist, monkeypatch, *words)
    (first,) = rows_of(tmp_path / "dataset" / "manifest.csv")
    image = tmp_path / "dataset" / first["image"]
    assert read_image(image).shape[-1] == max(before) + 1
    write_series(tree, "1.2.7", later)
    run(dicom_to_datalist, monkeypatch, *words)
    (second,) = rows_of(tmp_path / "dataset" / "manifest.csv")
    assert (second["case"], int(second["slices"])) == (first["case"], len(before) + len(later))
    assert read_image(image).shape[-1] == 8
    written = image.stat().st_mtime_ns
    run(dicom_to_datalist, monkeypatch, *words)
    assert image.stat().st_mtime_ns == written


def test_patients_without_a_number_are_told_apart_by_name(tmp_path, monkeypatch):
    for number, name in enumerate(["Doe^Jane", "Doe^Jane", "Roe^Ann", "", ""], start=1):
        folder = tmp_path / "archive" / str(number)
        write_series(folder, f"1.2.{number}", range(3), PatientID="", PatientName=name)
    run(dicom_to_datalist, monkeypatch, tmp_path / "archive", tmp_path / "dataset")
    patients = [row["patient"] for row in rows_of(tmp_path / "dataset" / "manifest.csv")]
    assert patients[0] == patients[1]
    assert len(set(patients)) == 4


def test_what_is_refused_is_listed_where_it_is_said(tmp_path, monkeypatch):
    tree, dataset = write_series(tmp_path / "archive", "1.2.7", range(3)), tmp_path / "dataset"
    (tree / "notes.txt").write_text("no image")
    refused = tmp_path / "lists" / "refused.csv"
    run(dicom_to_datalist, monkeypatch, tree, dataset, "--refused", refused)
    assert [row["what"] for row in rows_of(refused)] == [str(tree / "notes.txt")]
    assert not (tmp_path / "dataset.refused.csv").exists()
    # Where the list has no place, that is said before the work, not after it.
    monkeypatch.setattr(
        dicom_to_datalist, "convert_tree", lambda *_, **__: pytest.fail("converted")
    )
    with pytest.raises(SystemExit, match=r"cannot write .*lists"):
        run(dicom_to_datalist, monkeypatch, tree, dataset, "--refused", refused.parent)


@pytest.mark.parametrize(("modalities", "said"), [(["CT", "CT"], "CT"), (["CT", "PT"], "several")])
def test_an_image_has_one_channel_whatever_modalities_are_in_the_tree(tmp_path, modalities, said):
    fields = dataclasses.fields(dicom_to_datalist.Converted)
    empty = dicom_to_datalist.Converted(**dict.fromkeys((field.name for field in fields), ""))
    rows = [dataclasses.replace(empty, modality=modality) for modality in modalities]
    dicom_to_datalist.write_lists(tmp_path, rows)
    listed = json.loads((tmp_path / "dataset.json").read_text())
    assert listed["modality"] == {"0": said}
    assert [row["modality"] for row in rows_of(tmp_path / "manifest.csv")] == modalities


@pytest.mark.data
def test_a_dicom_tree_becomes_a_data_set(data_root, tmp_path, monkeypatch, capsys):
    tree, dataset = tmp_path / "archive", tmp_path / "dataset"
    for case in (
        "mr_hippocrop_a",
        "mr_sagittal_rle",
        "bad_slice_increment",
        "ct_oblique_anisotropic",
    ):
        shutil.copytree(data_root / "dicom_series" / case / "dicom", tree / "deep" / case)
    (tree / "notes.txt").write_text("no image")
    series = tree / "deep" / "mr_hippocrop_a"
    expected = read_image(series)
    labels = np.zeros(expected.shape[1:], np.uint8)
    labels[10:20, 10:20, 10:20] = 1
    write_segmentation(labels, tmp_path / "labels.nii.gz", like=expected)
    kind = "dicom-labelmap"  # a volume like any other, but for what it is
    convert_file(tmp_path / "labels.nii.gz", tree / "labels.dcm", kind=kind, source=series)
    run(dicom_to_datalist, monkeypatch, tree, dataset)
    assert "3 images in" in capsys.readouterr().out
    manifest = rows_of(dataset / "manifest.csv")
    assert len(manifest) == 3
    assert [case.case for case in read_manifest(dataset / "manifest.csv")] == [
        row["case"] for row in manifest
    ]
    for row in manifest:
        image = read_image(dataset / row["image"])
        assert image.shape[-1] == int(row["slices"])
    (crop,) = [row for row in manifest if row["slices"] == "32"]
    found = read_image(dataset / crop["image"])
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    refused = {row["what"]: row["reason"] for row in rows_of(tmp_path / "dataset.refused.csv")}
    assert any("equal gaps" in reason for reason in refused.values())
    assert "it is a segmentation (DICOM SEG) and no image" in refused.values()
    assert any(what.endswith("notes.txt") for what in refused)
    listed = json.loads((dataset / "dataset.json").read_text())
    assert listed["numTest"] == 3
    assert all((dataset / path).is_file() for path in listed["test"])
    # Nothing that the header says of the patient is in the data set, nor what would undo its names.
    names = {path.name for path in dataset.iterdir()}
    assert names == {"images", "manifest.csv", "dataset.json"}
    said = "".join((dataset / name).read_text() for name in ("manifest.csv", "dataset.json"))
    assert str(expected.meta["series_instance_uid"]) not in said
    assert all(row["patient"].startswith("ANON-") for row in manifest)

    # A stopped run goes on: what is there stays, and gets the same names.
    kept = dataset / crop["image"]
    before = kept.stat().st_mtime_ns
    gone = next(row for row in manifest if row is not crop)
    (dataset / gone["image"]).unlink()
    run(dicom_to_datalist, monkeypatch, tree, dataset, "--irregular", "resample")
    again = rows_of(dataset / "manifest.csv")
    assert kept.stat().st_mtime_ns == before
    assert (dataset / gone["image"]).is_file()
    assert {row["case"] for row in manifest} < {row["case"] for row in again}
    assert len(again) == 4

    # Nor does another key give every case a second name.
    key = (tmp_path / "dataset.key").rename(tmp_path / "key")
    with pytest.raises(SystemExit, match="the key of their names is not at"):
        run(dicom_to_datalist, monkeypatch, tree, dataset)
    words = (tree, dataset, "--irregular", "resample")
    run(dicom_to_datalist, monkeypatch, *words, "--key", key)
    assert rows_of(dataset / "manifest.csv") == again
    key.rename(dataset / "pseudonyms.key")  # where earlier versions made it
    run(dicom_to_datalist, monkeypatch, *words)
    assert rows_of(dataset / "manifest.csv") == again
    run(dicom_to_datalist, monkeypatch, tree, dataset, "--modality", "CT", "--least-slices", "4")
    assert rows_of(dataset / "manifest.csv") == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="holds no DICOM series"):
        run(dicom_to_datalist, monkeypatch, tmp_path / "empty", dataset)


def test_tables_that_cannot_be_used_are_refused_with_a_sentence(tmp_path, monkeypatch):
    write_boxes(tmp_path / "maps", {"a": 10})
    table = write_rows(tmp_path / "groups.csv", ["case", "group"], [["a", "control"]])
    words = [tmp_path / "maps", table, "-o", tmp_path / "out"]
    with pytest.raises(SystemExit, match="name what the labels of its maps are"):
        run(cohort_statistics, monkeypatch, *words)
    with pytest.raises(SystemExit, match="no 'patient' in line 2"):
        run(cohort_statistics, monkeypatch, *words, "--labels", "liver=1")
    with pytest.raises(SystemExit, match="'liver' cannot be read"):
        run(cohort_statistics, monkeypatch, *words, "--labels", "liver")
    for twice in ("liver=1,liver=2", "liver=1,spleen=1"):
        with pytest.raises(SystemExit, match="twice"):
            run(cohort_statistics, monkeypatch, *words, "--labels", twice)
    words[1] = tmp_path / "absent.csv"
    with pytest.raises(SystemExit, match="cannot be read as a CSV table"):
        run(cohort_statistics, monkeypatch, *words, "--labels", "liver=1")
