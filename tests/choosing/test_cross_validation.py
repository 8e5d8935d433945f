"""Cross-validation: what it leaves, that stops cost nothing, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg import Segmenter
from volseg.bundle import open_bundle, verify_bundle
from volseg.choosing import CrossValidationState, cross_validate, cross_validation_status
from volseg.choosing.cross_validation_folder import CrossValidationFolder
from volseg.choosing.cross_validation_plan import plan_cross_validation
from volseg.choosing.held_out import LabelledCase
from volseg.choosing.origin import labels_origin, probabilities_origin, uncleaned_origin
from volseg.choosing.prediction import predict_case
from volseg.cli.main import main
from volseg.data import hash_files
from volseg.errors import BundleError, InputError, OutputError
from volseg.evaluation import evaluate_files
from volseg.io import as_image, grid_of, read_image, write_image, write_segmentation
from volseg.postprocess import read_decision_table

EVERYTHING = {"choices": ["temperature", "cleaning"], "ensemble": True, "probabilities": True}


class Stopped(Exception):  # noqa: N818 - as a kill, not an error of volseg
    pass


def modified(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob(pattern))}


def test_a_stop_at_any_stage_costs_only_what_was_at_hand(torch_bundle, tmp_path):
    data, out = torch_bundle.parent / "data", tmp_path / "out"
    stages: list[str] = []
    epochs: list[int] = []  # by fold

    def run(stop_at: tuple[str, int] | None = None):
        def progress(state):
            stages.append(state.stage)
            if state.epoch_has_ended:
                epochs.append(state.fold)
            if stop_at == (state.stage, state.done):
                raise Stopped

        return cross_validate(
            torch_bundle,
            data,
            out,
            folds=[0, 2],
            settings={"epochs": 1},
            progress=progress,
            **EVERYTHING,
        )

    for stop_at in (("training", 500), ("gathering", 1), ("choosing", 1), ("predicting", 1)):
        with pytest.raises(Stopped):
            run(stop_at)
        weights = modified(out, "fold*/models/model.pt")
        assert len(weights) == (0 if stop_at[0] == "training" else 2)
    found = cross_validation_status(out)
    assert [(fold.trained, fold.cases) for fold in found.folds] == [(True, 2), (True, 2)]
    assert not found.finished
    result = run()
    assert modified(out, "fold*/models/model.pt") == weights
    assert cross_validation_status(out).finished
    assert epochs == [0, 2]

    # Each case once, by the bundle that has not seen it, as that bundle segments it.
    predictions = sorted(path.name for path in (out / "predictions").iterdir())
    assert predictions == [f"ball{case}.nii.gz" for case in (0, 2, 3, 5)]
    for fold, case in ((0, "ball3"), (2, "ball5")):
        again = Segmenter(out / f"fold{fold}").segment(data / "images" / f"{case}.nii.gz")
        written = np.asarray(nib.load(out / "predictions" / f"{case}.nii.gz").dataobj)
        assert np.array_equal(again.numpy()[0], written)
        assert (out / "probabilities" / f"{case}_probabilities.nii.gz").is_file()
        metadata = open_bundle(out / f"fold{fold}").metadata
        assert metadata["training"]["fold"] == fold
    (out / "references").mkdir()
    for case in (0, 2, 3, 5):
        name = f"ball{case}.nii.gz"
        (out / "references" / name).symlink_to(data / "labels" / name)
    expected = evaluate_files(
        out / "predictions", out / "references", labels={"anterior": 1, "posterior": 2}
    )
    for name, metrics in expected.summary().items():
        assert result.evaluation.summary()[name]["dice"] == metrics["dice"]
    with (out / "folds.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "dice"]
    assert [(row["fold"], row["name"]) for row in rows] == [
        (fold, name) for fold in ("0", "2", "all") for name in ("anterior", "posterior")
    ]
    assert float(rows[-1]["mean"]) == pytest.approx(expected.summary()["posterior"]["dice"].mean)

    # One bundle of the folds, decided as all cases say.
    assert [check.name for check in verify_bundle(out / "ensemble") if not check.passed] == []
    ensemble = open_bundle(out / "ensemble")
    told = ensemble.metadata["cross_validation"]
    assert (told["cases"], told["folds"]) == (4, [0, 2])
    assert told["values"] == {"temperature": result.temperature.value}
    assert set(told["metrics"]["anterior"]["dice"]["folds"]) == {"0", "2"}
    rules = read_decision_table(out / "ensemble" / "configs" / "postprocessing.json")
    assert rules == read_decision_table(out / "fold0" / "configs" / "postprocessing.json")
    # Temperatures of a fold are chosen on the others: here each on the other one.
    kept = [
        json.loads((out / name / "configs" / "decision.json").read_text())["temperature"]
        for name in ("fold0", "fold2", "ensemble")
    ]
    assert [entry["cases"] for entry in kept] == [2, 2, 4]
    assert kept[0]["negative_log_likelihood"] != kept[1]["negative_log_likelihood"]

    # Once finished, nothing is done again.
    before = modified(out, "**/*.npz") | modified(out, "predictions/*")
    before |= modified(out, "fold*/configs/*.yaml") | modified(out, "ensemble/models/*")
    run()
    after = modified(out, "**/*.npz") | modified(out, "predictions/*")
    after |= modified(out, "fold*/configs/*.yaml") | modified(out, "ensemble/models/*")
    assert after == before
    # And something else is not begun here.
    with pytest.raises(InputError, match="begun with another settings"):
        cross_validate(torch_bundle, data, out, folds=[0, 2], settings={"epochs": 2})


def relabelled(path: Path) -> None:
    """Give a label file one more voxel of a class, as someone who corrects it."""
    stored = nib.load(path)
    labels = np.asarray(stored.dataobj).copy()
    labels[tuple(np.argwhere(labels == 0)[0])] = 1
    nib.save(nib.Nifti1Image(labels, stored.affine), path)


def test_what_has_changed_since_is_done_again_and_nothing_else(torch_bundle, tmp_path):
    data, out = torch_bundle.parent / "data", tmp_path / "out"

    def run(**options):
        given = {"folds": [0, 2], "settings": {"epochs": 1}, **options}
        return cross_validate(torch_bundle, data, out, **given)

    def read(name: str, folder: str = "fold0") -> str:
        return (out / folder / "configs" / name).read_text()

    trained = "models/model.pt"
    plain = run(probabilities=True)
    inference = read("inference.yaml")
    run(**EVERYTHING)
    assert read("inference.yaml") != inference
    weights = modified(out, f"fold*/{trained}")

    # A label that is corrected: its case is scored anew, the others are as they were.
    kept, found = modified(out, "cases/*"), modified(out, "fold*/evaluation/evidence/*")
    ensemble = modified(out, f"ensemble/{trained}")
    relabelled(data / "labels" / "ball3.nii.gz")
    run(**EVERYTHING)
    again, gathered = modified(out, "cases/*"), modified(out, "fold*/evaluation/evidence/*")
    changed = {path.name for path in found if found[path] != gathered[path]}
    assert changed == {"ball3.npz"}
    assert again[out / "cases" / "ball3.json"] != kept[out / "cases" / "ball3.json"]
    assert modified(out, f"ensemble/{trained}") != ensemble  # other choices, other figures

    # Choices that are withdrawn: the folds decide as the bundle they came from.
    withdrawn = run()
    assert read("inference.yaml") == inference
    assert not (out / "fold0" / "configs" / "decision.json").exists()
    assert not (out / "fold2" / "configs" / "postprocessing.json").exists()
    before = {row.case: row for row in plain.evaluation.rows if row.name == "anterior"}
    for row in withdrawn.evaluation.rows:
        if row.name == "anterior" and row.case != "ball3":
            assert row == before[row.case]
    # What the probabilities were of is no more: none are left that say otherwise.
    assert modified(out, "probabilities/*") == {}
    run(choices=["temperature"], probabilities=True)
    assert len(modified(out, "probabilities/*")) == 4
    assert modified(out, f"fold*/{trained}") == weights


def test_an_ensemble_that_cannot_be_made_leaves_the_one_before(torch_bundle, tmp_path, monkeypatch):
    data, out = torch_bundle.parent / "data", tmp_path / "out"
    options = {"folds": [0, 2], "settings": {"epochs": 1}, "ensemble": True}
    cross_validate(torch_bundle, data, out, **options)
    before = modified(out, "ensemble/**/*")

    def full(*_arguments, **_options):
        raise OutputError("no space is left.")

    relabelled(data / "labels" / "ball3.nii.gz")
    with monkeypatch.context() as patch:
        patch.setattr("volseg.bundle.ensembling.save_weights", full)
        with pytest.raises(OutputError, match="no space is left"):
            cross_validate(torch_bundle, data, out, **options)
    assert modified(out, "ensemble/**/*") == before
    told = json.loads((out / "ensemble" / "configs" / "metadata.json").read_text())
    assert told["cross_validation"]["measured_on"].startswith("single networks of the folds")


def test_a_bundle_whose_standardisation_was_fitted_anew_is_another(torch_bundle, tmp_path):
    configs, place = torch_bundle / "configs", CrossValidationFolder(tmp_path / "out")
    with (configs / "train.yaml").open("a") as config:
        config.write("standardization: configs/standardization.json\n")

    def plan():
        return plan_cross_validation(
            open_bundle(torch_bundle),
            torch_bundle.parent / "data",
            folds=None,
            settings={},
            choices=(),
            metric="dice",
            probabilities=False,
            ensemble=False,
        )

    (configs / "standardization.json").write_text("{}")
    first = plan()
    names = ("train.yaml", "inference.yaml", "datalist.json")
    earlier = hash_files(configs / name for name in names)
    assert earlier != first.configs_sha256
    place.begin(replace(first, configs_sha256=earlier))  # of an earlier version
    place.begin(plan())
    assert place.plan() == first
    (configs / "standardization.json").write_text('{"scale": 2}')
    with pytest.raises(InputError, match="was begun with another configs"):
        place.begin(plan())


def test_results_of_another_standardisation_are_not_those_of_the_bundle(torch_bundle):
    configs = torch_bundle / "configs"
    with (configs / "inference.yaml").open("a") as config:
        config.write("standardization: configs/standardization.json\n")
    (configs / "standardization.json").write_text("{}")

    def origins():
        bundle = open_bundle(torch_bundle)
        return {labels_origin(bundle), uncleaned_origin([bundle]), probabilities_origin(bundle)}

    before = origins()
    assert origins() == before
    (configs / "standardization.json").write_text('{"scale": 2}')
    assert before.isdisjoint(origins())


def test_a_label_map_in_a_picture_lies_where_its_image_does(tmp_path):
    labels = np.zeros((30, 28), np.uint8)
    labels[4:9, 3:20] = 1
    for name, values in {"image": labels.astype(np.float32), "label": labels}.items():
        write_image(as_image(values, np.diag([-0.5, -0.5, 1.0])), tmp_path / f"{name}.mha")

    class Predicting:
        def segment_file(self, image, output, **_):
            write_segmentation(labels, output, like=image)

    case = LabelledCase(
        "a",
        str(tmp_path / "image.mha"),
        str(tmp_path / "label.mha"),
        reading=lambda item: {"label": read_image(item["label"])},
    )
    files = {"labels": tmp_path / "a.png", "probabilities": tmp_path / "a.zarr"}
    found = predict_case(Predicting(), case, **files)
    assert grid_of(found) == grid_of(read_image(case.image))
    assert np.array_equal(found.numpy()[0], labels)
    assert np.array_equal(case.reference(found), labels)


def test_an_edited_inference_is_refused_where_choices_are_to_be_stored(torch_bundle, tmp_path):
    path = torch_bundle / "configs" / "inference.yaml"
    path.write_text(path.read_text() + "# mine\n")
    with pytest.raises(BundleError, match="is not what the bundle was composed of"):
        cross_validate(
            torch_bundle, torch_bundle.parent / "data", tmp_path / "out", choices=["cleaning"]
        )
    assert not (tmp_path / "out").exists()


def test_the_command_goes_on_after_a_kill(torch_bundle, tmp_path, capfd):
    data, out = torch_bundle.parent / "data", tmp_path / "out"
    words = ["crossval", str(torch_bundle), "--data", str(data), "-o", str(out)]
    words += ["--folds", "0,1", "--epochs", "1"]
    process = subprocess.Popen([sys.executable, "-m", "volseg", *words], env={**os.environ})
    until = time.monotonic() + 120
    while not (out / "fold0" / "models" / "model.pt").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    weights = modified(out, "fold0/models/model.pt")
    assert weights
    assert not cross_validation_status(out).finished
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["cases"] == 4
    assert (out / "evaluation.html").is_file()
    assert set(found["metrics"]) == {"anterior", "posterior"}
    assert modified(out, "fold0/models/model.pt") == weights
    with pytest.raises(SystemExit, match="0"):
        main(["crossval", "-o", str(out), "--status"])
    assert capfd.readouterr().out.splitlines()[-1] == "finished"
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="holds no cross-validation"):
        cross_validate(torch_bundle, data, tmp_path / "else")


def test_a_log_has_a_line_for_each_stage_and_each_epoch(tmp_path, monkeypatch, capfd):
    told = [
        CrossValidationState("training", 0, 0, 1000),
        CrossValidationState("training", 0, 0, 1000, "a step"),
        CrossValidationState("training", 0, 500, 1000, "epoch 1/2", epoch_has_ended=True),
        CrossValidationState("training", 0, 1000, 1000, "epoch 2/2", epoch_has_ended=True),
        CrossValidationState("predicting", 0, 0, 2),
        CrossValidationState("predicting", 0, 2, 2),
        CrossValidationState("predicting", 1, 0, 2),
    ]

    def validated(*_, progress, **__):
        for state in told:
            progress(state)
        raise InputError("that is all")

    monkeypatch.setattr("volseg.choosing.cross_validate", validated)
    with pytest.raises(SystemExit, match="2"):
        main(["crossval", "b", "--data", str(tmp_path), "-o", str(tmp_path / "out")])
    assert capfd.readouterr().err.splitlines() == [
        "training fold 0",
        "training fold 0: epoch 1/2",
        "training fold 0: epoch 2/2",
        "predicting fold 0",
        "predicting fold 1",
        "error: that is all",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": [0, 7]}, "lists the folds 0, 1, 2, not 7"),
        ({"choices": ["treshold"]}, "unknown choice 'treshold'"),
        ({"choices": ["threshold"]}, "3 classes that compete"),
        ({"choices": ["temperature"], "folds": [1]}, "chosen on the others"),
        ({"ensemble": True, "folds": [1]}, "at least two folds"),
        ({"settings": {"epoch": 3}}, "epochs"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"settings": {"patience": 3}}, "with patience 3 the held-out cases decide"),
        ({"settings": {"final_weights": "best"}}, "add --set final_weights=last"),
    ],
)
def test_what_cannot_end_well_is_refused_before_it_begins(torch_bundle, tmp_path, options, message):
    data = torch_bundle.parent / "data"
    with pytest.raises(InputError, match=message):
        cross_validate(torch_bundle, data, tmp_path / "out", **options)
    # Nor was anything begun: the command without the mistake is not refused for being another.
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there_are_named_before_anything_is_begun(torch_bundle, tmp_path):
    with pytest.raises(InputError, match="needs .*ball0.* which does not exist"):
        cross_validate(torch_bundle, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
