"""``volseg evaluate`` as a user meets it: its options, and what it says it left out."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from volseg.cli.main import main
from volseg.io import probabilities_target


@pytest.fixture
def folders(tmp_path):
    """Five cases of three patients; the lesion is in two references and one prediction."""
    for number, case in enumerate(["a_1", "a_2", "b_1", "b_2", "c_1"]):
        reference = np.zeros((12, 10, 6), np.uint8)
        reference[2:8, 2:8, 1:5] = 1
        prediction = np.roll(reference, number, axis=0)
        if number < 2:
            reference[9:11, 2:4, 2:4] = 2
        if number == 0:
            prediction[9:11, 2:4, 2:4] = 2
        reference[:, 9] = 255
        other = np.roll(prediction, 1, axis=1)
        for folder, labels in (
            ("references", reference),
            ("ours", prediction),
            ("others", other),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            image = nib.Nifti1Image(labels, np.eye(4))
            nib.save(image, tmp_path / folder / f"{case}.nii.gz")
    return tmp_path


@pytest.fixture
def evaluate(folders, capfd):
    """Run the command; return its exit code, summary and messages."""

    def run(*words: object, out: str = "s.csv") -> tuple[int, dict, str]:
        places = [folders / "ours", folders / "references", "-o", folders / out]
        labels = ["--label", "liver=1", "--label", "lesion=2", "--ignore", 255, "--json"]
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in ["evaluate", *places, *labels, *words]])
        text, errors = capfd.readouterr()
        return int(end.value.code or 0), json.loads(text) if text else {}, errors

    return run


def test_missing_classes_count_as_asked_for(evaluate):
    code, found, errors = evaluate()
    assert (code, errors, found["ignored_value"]) == (0, "", 255)
    lesion = found["classes"]["lesion"]
    assert (lesion["dice"]["mean"], lesion["dice"]["n"], lesion["dice"]["n_empty"]) == (0.5, 2, 3)
    assert lesion["hausdorff95_mm"]["n_infinite"] == 1
    _, perfect, _ = evaluate("--empty", "perfect", "--missed-distance", 40)
    lesion = perfect["classes"]["lesion"]
    assert (lesion["dice"]["mean"], lesion["dice"]["n"]) == (0.8, 5)
    assert lesion["hausdorff95_mm"]["mean"] == 40 / 5
    for summary in (found, perfect):  # however these count
        counts = summary["cases_with_class_in"]["lesion"]
        assert counts == {"both": 1, "one": 1, "neither": 3}
    assert perfect["rules"][:2] == [
        "Where neither map holds a class, the case counts as perfect: overlaps 1, distances 0.",
        "Where only one map holds it, overlaps are 0 and distances count as 40 mm.",
    ]
    code, _, errors = evaluate("--missed-distance", -1)
    assert (code, len(errors.splitlines())) == (2, 1)


def test_patients_come_from_a_list_a_table_or_a_pattern(evaluate, folders):
    cases = ["a_1", "a_2", "b_1", "b_2", "c_1"]
    entries = [
        {"case": case, "image": "x", "label": "y", "patient": case[0], "fold": 0} for case in cases
    ]
    (folders / "datalist.json").write_text(json.dumps({"training": entries}))
    lines = ["case,patient", *(f"{case},{case[0]}" for case in cases)]
    (folders / "patients.csv").write_text("\n".join(lines))
    intervals = []
    for source in (folders / "datalist.json", folders / "patients.csv", "(.)_"):
        code, found, _ = evaluate("--patients", source)
        assert (code, found["patients"]) == (0, 3)
        intervals.append(found["classes"]["liver"]["dice"]["interval"])
    assert intervals[0] == intervals[1] == intervals[2]
    _, found, _ = evaluate()
    assert found["patients"] == 5
    assert found["classes"]["liver"]["dice"]["interval"] != intervals[0]
    (folders / "patients.csv").write_text("case,patient\na_1,a\n")
    code, _, errors = evaluate("--patients", folders / "patients.csv")
    assert code == 2
    assert "4 cases have no patient" in errors


def test_what_is_only_in_one_set_is_named(evaluate, folders):
    (folders / "others" / "b_1.nii.gz").unlink()
    (folders / "ours" / "c_1.nii.gz").unlink()
    code, found, errors = evaluate("--against", folders / "others")
    assert code == 0
    comparison = found["comparison"]
    assert (comparison["first"], comparison["second"]) == ("ours", "others")
    assert (comparison["cases"], comparison["only_first"], comparison["only_second"]) == (
        3,
        ["b_1"],
        ["c_1"],
    )
    assert "ours: without a prediction, and left out: c_1.nii.gz" in errors
    assert "others: without a prediction, and left out: b_1.nii.gz" in errors
    liver = comparison["rows"][0]
    assert (liver["metric"], liver["better"], liver["worse"]) == ("dice", 3, 0)
    code, _, errors = evaluate()
    assert code == 2
    assert "not every file has a partner" in errors


def test_what_cannot_be_done_is_refused_before_anything_is_compared(evaluate, folders, monkeypatch):
    monkeypatch.setattr(
        "volseg.evaluation.evaluate_pairs", lambda *_, **__: pytest.fail("too late")
    )
    (folders / "blocked").touch()
    (folders / "page.html").mkdir()
    for words, out, reason in (
        ([], "blocked/s.csv", "cannot write"),
        ([], "page.html", "it is a folder"),
        ([], "s.xlsx", r"expected a name that ends in .html (page)"),
        (["--images", folders / "nowhere"], "s.html", "there is no folder"),
        (["--probabilities", folders], "s.csv", "there is no a_1_probabilities"),
        (["--probabilities", folders, "--label", "all=1,2"], "s.csv", "all is a region"),
        (["--against", folders / "empty"], "s.csv", "has no case of"),
    ):
        (folders / "empty").mkdir(exist_ok=True)
        (folders / "empty" / "z.nii.gz").touch()
        code, _, errors = evaluate(*words, out=out)
        assert code == 2
        assert reason in errors
        assert not (folders / "s.csv").exists()


def test_the_table_of_patients_is_not_replaced(evaluate, folders):
    lines = ["case,patient", *(f"{case},{case[0]}" for case in ["a_1", "a_2", "b_1", "b_2", "c_1"])]
    for name, out in (("s.csv", "s.html"), ("s_summary.csv", "s.json")):
        (folders / name).write_text("\n".join(lines))
        code, _, errors = evaluate("--patients", folders / name, out=out)
        assert code == 2
        assert "would be replaced" in " ".join(errors.split())
        assert (folders / name).read_text() == "\n".join(lines)


def test_channels_are_those_of_the_bundle_whatever_is_scored(folders, repository, capfd):
    paths = [folders / name / "a_1.nii.gz" for name in ("ours", "references")]
    reference = np.asarray(nib.load(paths[1]).dataobj)
    probabilities = folders / "a_1_probabilities.nii"
    with probabilities_target(probabilities, like=paths[1], classes=3) as target:
        target[:, :, :, :] = np.stack([0.1 + 0.7 * (reference == value) for value in range(3)])
    words = [*paths, "-o", folders / "s.csv", "--ignore", 255, "--json"]
    words += ["-b", repository / "bundles" / "hippocampus_unet", "--probabilities", folders]
    found = []
    for labels in ([], ["anterior=1", "posterior=2", "whole=1,2"], ["whole=1,2"]):
        options = [word for label in labels for word in ("--label", label)]
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *map(str, [*words, *options])])
        text, errors = capfd.readouterr()
        assert (end.value.code or 0, errors) == (0, "")
        found.append(json.loads(text)["calibration"])
    assert set(found[0]["curves"]) == {"label", "foreground", "anterior", "posterior"}
    assert 0.1 < found[0]["curves"]["anterior"]["expected_calibration_error"] < 0.2
    assert found[1] == found[2] == found[0]


def test_the_tables_say_the_same_to_people(folders, capfd):
    words = ["evaluate", folders / "ours", folders / "references", "-o", folders / "s.json"]
    with pytest.raises(SystemExit):
        main([str(word) for word in [*words, "--against", folders / "others"]])
    text, errors = capfd.readouterr()
    assert errors == ""
    assert "Each case counts as a patient of its own" in text
    assert "ours against others in the 5 cases of both" in text
    assert (folders / "s_comparison.csv").is_file()


def test_names_of_labels_are_no_markup(folders, capfd):
    paths = [folders / name / "a_1.nii.gz" for name in ("ours", "references")]
    words = [*paths, "-o", folders / "s.csv", "--label", "a[b]=1"]
    with pytest.raises(SystemExit):
        main(["evaluate", *map(str, words)])
    assert "a[b]" in capfd.readouterr().out


def test_two_files_are_of_one_case_whatever_they_are_called(folders, capfd):
    other = folders / "second reader.nii.gz"
    (folders / "others" / "a_1.nii.gz").rename(other)
    words = [folders / "ours" / "a_1.nii.gz", folders / "references" / "a_1.nii.gz"]
    options = ["-o", folders / "s.csv", "--against", other, "--ignore", 255, "--json"]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, [*words, *options])])
    found = json.loads(capfd.readouterr().out)["comparison"]
    assert (end.value.code or 0, found["cases"]) == (0, 1)
    assert (found["first"], found["second"]) == ("a_1.nii.gz", "second reader.nii.gz")
