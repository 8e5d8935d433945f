import csv
import json
import math

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from volseg.cli.main import main
from volseg.errors import Cancelled, InputError, OutputError
from volseg.evaluation import (
    METRICS,
    evaluate_files,
    evaluate_pairs,
    how_computed,
    intervals_of_means,
    pair_files,
    write_evaluation,
)
from volseg.metrics import surface_distances

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def save(path, labels, affine=AFFINE, dtype=np.uint8):
    path.parent.mkdir(exist_ok=True)
    nib.Nifti1Image(labels.astype(dtype), affine).to_filename(path)


@pytest.fixture
def folders(tmp_path):
    """Three good cases: equal, shifted with a class missed, and without class 2 in both."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    labels = np.zeros((10, 10, 6))
    labels[2:5, 2:6, 1:4], labels[7:9, 7:9, 2:4] = 1, 2
    shifted = np.roll(labels, 1, axis=0)
    shifted[shifted == 2] = 0
    only_1 = np.where(labels == 1, 1, 0)
    save(predictions / "a_seg.nii.gz", labels)
    save(references / "a.nii.gz", labels, dtype=np.float32)
    save(predictions / "b_seg.nii.gz", shifted, dtype=np.int32)
    save(references / "b.nii.gz", labels)
    save(predictions / "c_seg.nii.gz", only_1)
    save(references / "c.nii.gz", only_1)
    return predictions, references


def test_table_and_summary(folders):
    seen = []
    evaluation = evaluate_files(
        *folders,
        labels={"one": 1, "two": 2},
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [(row.case, row.name) for row in evaluation.rows] == [
        (case, name) for case in "abc" for name in ("one", "two")
    ]
    assert not evaluation.failures
    assert not evaluation.undeclared
    one, two = evaluation.summary().values()
    dice = [1, 2 / 3, 1]
    assert one["dice"].mean == pytest.approx(np.mean(dice))
    assert one["dice"].standard_deviation == pytest.approx(np.std(dice, ddof=1))
    assert (one["dice"].median, one["dice"].minimum, one["dice"].maximum) == (1, 2 / 3, 1)
    assert (one["dice"].n, one["dice"].n_empty, one["dice"].n_infinite) == (3, 0, 0)
    assert (two["dice"].mean, two["dice"].n, two["dice"].n_empty) == (0.5, 2, 1)
    distance = two["hausdorff95_mm"]
    assert (distance.mean, distance.n, distance.n_empty, distance.n_infinite) == (0, 1, 1, 1)
    assert math.isnan(distance.standard_deviation)
    over = evaluation.mean_over_classes()
    assert over["dice"] == pytest.approx((np.mean(dice) + 0.5) / 2)


def test_a_tilted_gantry_is_measured_as_it_lies(tmp_path):
    reference = np.zeros((12, 10, 8))
    reference[3:8, 3:7, 2:6] = 1
    prediction = np.roll(reference, (1, 1), axis=(0, 2))
    prediction[3, 3, 2] = 1
    affine = np.array([[1.0, 0, -1.5, 4], [0, 1, 0, 5], [0, 0, 2, 6], [0, 0, 0, 1]])
    for name, labels in (("predictions", prediction), ("references", reference)):
        save(tmp_path / name / "a.nii.gz", labels, affine)
    (row,) = evaluate_files(tmp_path / "predictions", tmp_path / "references").rows
    steps = affine[:3, :3]
    expected = surface_distances(prediction == 1, reference == 1, spacing=steps)
    assert row.hausdorff95_mm == pytest.approx(expected.hausdorff(95))
    assert row.average_surface_distance_mm == pytest.approx(expected.average())
    assert row.reference_ml == pytest.approx(5 * 4 * 4 * 2 / 1000)
    assert row.volume_error_ml == pytest.approx(2 / 1000)
    assert expected.hausdorff(95) < surface_distances(
        prediction == 1, reference == 1, spacing=np.linalg.norm(steps, axis=0)
    ).hausdorff(95)


def test_without_labels_all_found_are_scored_and_absent_ones_counted(folders):
    evaluation = evaluate_files(*folders)
    assert evaluation.labels == {"1": 1, "2": 2}
    assert evaluation.rows[-1].name == "2"
    assert math.isnan(evaluation.rows[-1].dice)
    named = evaluate_files(*folders, labels={"1": 1, "2": 2})
    assert str(evaluation.summary()) == str(named.summary())


def test_undeclared_values_are_reported(folders):
    evaluation = evaluate_files(*folders, labels={"one": 1})
    assert evaluation.undeclared == {"a": [2], "b": [2]}
    assert {row.name for row in evaluation.rows} == {"one"}


def test_one_bad_case_never_stops_the_others(folders, tmp_path):
    predictions, references = folders
    moved = AFFINE.copy()
    moved[0, 3] = 5
    save(predictions / "b_seg.nii.gz", np.zeros((10, 10, 6)), moved)
    save(predictions / "d.nii.gz", np.full((10, 10, 6), 0.5), dtype=np.float32)
    save(references / "d.nii.gz", np.zeros((10, 10, 6)))
    (predictions / "e.nii.gz").write_bytes(b"not an image")
    save(references / "e.nii.gz", np.zeros((10, 10, 6)))
    evaluation = evaluate_files(predictions, references, labels={"one": 1})
    assert [row.case for row in evaluation.rows] == ["a", "c"]
    assert list(evaluation.failures) == ["b", "d", "e"]
    assert str(predictions / "b_seg.nii.gz") in evaluation.failures["b"]
    assert str(references / "b.nii.gz") in evaluation.failures["b"]
    assert "same grid" in evaluation.failures["b"]
    assert "d.nii.gz is not a label map" in evaluation.failures["d"]
    assert "e.nii.gz" in evaluation.failures["e"]
    table, summary = write_evaluation(evaluation, tmp_path / "result.json")
    assert list(json.loads(summary.read_text())["failures"]) == ["b", "d", "e"]
    assert len(table.read_text().splitlines()) == 3


def test_all_cases_may_fail(folders, tmp_path):
    predictions, references = folders
    (predictions / "a_seg.nii.gz").write_bytes(b"")
    evaluation = evaluate_pairs([("x", predictions / "a_seg.nii.gz", references / "a.nii.gz")])
    assert evaluation.rows == []
    assert list(evaluation.failures) == ["x"]
    _, summary = write_evaluation(evaluation, tmp_path / "x.csv")
    assert json.loads(summary.read_text())["mean_over_classes"]["dice"] is None


def test_maps_without_any_label_give_no_row(tmp_path):
    save(tmp_path / "a.nii.gz", np.zeros((4, 4, 4)))
    evaluation = evaluate_files(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz")
    assert (evaluation.rows, evaluation.labels, evaluation.failures) == ([], {}, {})


def test_a_mask_a_channel_is_not_a_label_map(tmp_path):
    save(tmp_path / "a.nii.gz", np.zeros((4, 4, 4, 3)))
    evaluation = evaluate_files(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz")
    assert "a.nii.gz" in evaluation.failures["a"]


def test_written_files_can_be_read_back(folders, tmp_path):
    evaluation = evaluate_files(*folders, labels={"one": 1, "two": 2})
    paths = write_evaluation(evaluation, tmp_path / "out" / "scores.csv")
    assert paths == (tmp_path / "out" / "scores.csv", tmp_path / "out" / "scores.json")
    with paths[0].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [rows[3]["case"], rows[3]["name"], rows[3]["dice"]] == ["b", "two", "0.0"]
    assert rows[3]["hausdorff95_mm"] == "inf"
    assert rows[5]["dice"] == ""
    summary = json.loads(paths[1].read_text())
    distance = summary["classes"]["two"]["hausdorff95_mm"]
    assert (distance["n_infinite"], distance["n_empty"], distance["standard_deviation"]) == (
        1,
        1,
        None,
    )
    assert set(summary["mean_over_classes"]) == set(METRICS)
    assert summary["cases"] == 3
    with pytest.raises(OutputError, match=r"\.csv"):
        write_evaluation(evaluation, tmp_path / "scores.xlsx")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "scores.csv",
        "scores.json",
        "scores_summary.csv",
    ]


def test_what_cannot_be_written_leaves_all_as_it_was(folders, tmp_path):
    evaluation = evaluate_files(*folders, labels={"one": 1})
    (tmp_path / "scores.csv").write_text("before")
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(OutputError, match=r"scores\.json: it is a folder"):
        write_evaluation(evaluation, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == "before"
    assert not (tmp_path / "scores_summary.csv").exists()


def test_intervals_stand_beside_the_means(folders, tmp_path):
    pairs = pair_files(*folders)
    labels = {"one": 1, "two": 2}
    patients = {"a": "x", "b": "x", "c": "y"}
    evaluation = evaluate_pairs(pairs, labels=labels, patients=patients)
    dice = evaluation.summary()["one"]["dice"]
    assert dice.patients == 2
    values = [[row.dice] for row in evaluation.rows if row.name == "one"]
    (expected,) = intervals_of_means(values, ["x", "x", "y"])
    assert dice.interval == expected
    alone = evaluate_pairs(pairs, labels=labels).summary()["one"]["dice"]
    assert (alone.patients, alone.mean) == (3, dice.mean)
    table, summary = write_evaluation(evaluation, tmp_path / "scores.csv")
    found = json.loads(summary.read_text())
    assert found["classes"]["one"]["dice"]["interval"] == list(expected)
    assert found["classes"]["two"]["hausdorff95_mm"]["interval"] == [None, None]
    assert (found["cases"], found["patients"]) == (3, 2)
    assert "3 cases are of 2 patients." in found["rules"]
    with table.open(newline="") as stream:
        assert [row["patient"] for row in csv.DictReader(stream)][::2] == ["x", "x", "y"]
    with (tmp_path / "scores_summary.csv").open(newline="") as stream:
        rows = {(row["name"], row["metric"]): row for row in csv.DictReader(stream)}
    assert float(rows["one", "dice"]["mean_low"]) == expected.low
    assert rows["two", "hausdorff95_mm"]["mean_high"] == ""
    with pytest.raises(InputError, match="1 cases have no patient"):
        evaluate_pairs(pairs, patients={"a": "x", "b": "x"})


def test_a_value_that_is_ignored_is_no_label(folders):
    predictions, references = folders
    labels = np.zeros((10, 10, 6))
    labels[2:5, 2:6, 1:4], labels[5:] = 1, 255
    save(references / "a.nii.gz", labels)
    evaluation = evaluate_files(predictions, references, ignore=255)
    assert evaluation.labels == {"1": 1, "2": 2}
    assert evaluation.rows[0].dice == 1
    assert math.isnan(evaluation.rows[1].dice)  # of class 2 all is unknown
    named = evaluate_files(predictions, references, labels={"one": 1}, ignore=255)
    assert named.undeclared == {"a": [2], "b": [2]}


def test_it_is_said_whether_patients_were_named(folders):
    for patients, ending in (
        (None, "own: none were named."),
        ({case: case for case in "abc"}, "own."),
    ):
        evaluation = evaluate_pairs(pair_files(*folders), patients=patients)
        assert how_computed(evaluation)[-1] == f"Each case counts as a patient of its {ending}"


def test_pictures_have_pixels_and_no_volume(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.eye(6, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    pictures = evaluate_pairs([("a", tmp_path / "a.png", tmp_path / "b.png")]).metrics
    assert pictures["hausdorff95_mm"].heading == "HD95, pixels"
    assert "volume_error_ml" not in pictures
    assert pictures["volume_error_relative"].title == "relative area error"
    # A slice in a file that says how large its voxels are.
    save(tmp_path / "a.nii.gz", np.eye(6))
    slices = evaluate_pairs([("a", tmp_path / "a.nii.gz", tmp_path / "a.nii.gz")]).metrics
    assert slices["hausdorff95_mm"].heading == "HD95, mm"


def test_volumes_have_all_metrics(folders):
    assert evaluate_files(*folders).metrics == METRICS


def test_wrong_options_stop_before_the_first_case(folders):
    with pytest.raises(InputError, match="tolerance"):
        evaluate_files(*folders, surface_tolerance_mm=-1)
    with pytest.raises(InputError, match="background"):
        evaluate_files(*folders, labels={"x": 0})
    with pytest.raises(InputError, match="at least one"):
        evaluate_pairs([])
    with pytest.raises(InputError, match="more than one pair is named a"):
        evaluate_pairs([("a", "x", "y")] * 2)


def test_the_caller_can_stop(folders):
    def stop(done, total):
        raise Cancelled("stopped.")

    with pytest.raises(Cancelled):
        evaluate_files(*folders, progress=stop)


@pytest.mark.data
def test_real_label_maps(data_root):
    reference = data_root / "ct_organs" / "ct_small_seg.nii.gz"
    evaluation = evaluate_files(reference, reference, labels={"liver": 5, "urinary bladder": 21})
    liver, bladder = evaluation.rows
    assert (liver.dice, liver.hausdorff95_mm, liver.volume_error_ml) == (1, 0, 0)
    assert math.isnan(bladder.dice)
    assert 6 in evaluation.undeclared["ct_small"]


def test_regions_are_scored_through_the_command_and_named_in_the_tables(folders, tmp_path, capfd):
    options = ("--label", "all=1,2", "--label", "two=2", "-o", str(tmp_path / "scores.csv"))
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *map(str, folders), *options])
    capfd.readouterr()
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [(row["case"], row["name"], row["label"]) for row in rows[:3]] == [
        ("a", "all", "1 2"),
        ("a", "two", "2"),
        ("b", "all", "1 2"),
    ]
    assert float(rows[2]["dice"]) == pytest.approx(2 * 24 / (36 + 44))
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert summary["labels"] == {"all": [1, 2], "two": 2}
    assert not summary["undeclared_labels"]
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *map(str, folders), "--label", "all=1,x", "-o", str(tmp_path / "x.csv")])
    assert "--label 'all=1,x' cannot be read" in " ".join(capfd.readouterr().err.split())
