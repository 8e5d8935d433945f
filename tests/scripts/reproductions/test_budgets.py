"""Our side trains for real; nnU-Net's is played by programs of its names."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from reproductions import nnunet
from volseg.data import Case, read_datalist
from volseg.errors import InputError, VolsegError

# What nnU-Net's programs leave behind, without the network: predictions are the true labels.
_PLAYED = """\
#!{python}
import json, os, shutil, sys
from pathlib import Path
name, words = Path(sys.argv[0]).name, sys.argv[1:]
print(name, os.environ["nnUNet_n_proc_DA"], os.environ["OMP_NUM_THREADS"], *words)
raw, data_set = Path(os.environ["nnUNet_raw"]), "{data_set}"
if name == "nnUNetv2_plan_and_preprocess":
    assert json.loads((raw / data_set / "dataset.json").read_text())["numTraining"] == 6
    Path(os.environ["nnUNet_preprocessed"], data_set).mkdir(parents=True)
elif name == "nnUNetv2_train":
    splits = Path(os.environ["nnUNet_preprocessed"], data_set, "splits_final.json")
    assert len(json.loads(splits.read_text())[int(words[2])]["val"]) == 2
    trained = Path(os.environ["nnUNet_results"], data_set, "{model}", "fold_" + words[2])
    trained.mkdir(parents=True)
    found = dict(seconds=float(os.environ["VOLSEG_SECONDS"]), steps=3, loss=0.5, batch_size=2)
    (trained / "timed.json").write_text(json.dumps(found))
else:
    images, predictions = (Path(words[words.index(one) + 1]) for one in ("-i", "-o"))
    predictions.mkdir()
    for image in images.iterdir():
        case = image.name.replace("_0000", "")
        shutil.copyfile(raw / data_set / "labelsTr" / case, predictions / case)
"""


@pytest.fixture
def played(tmp_path):
    """A folder of nnU-Net whose programs play it."""
    home = tmp_path / "nnunet"
    programs = home / "environment" / "bin"
    programs.mkdir(parents=True)
    text = _PLAYED.format(
        python=sys.executable,
        data_set=nnunet.DATA_SET,
        model=f"{nnunet.TRAINER}__nnUNetPlans__{nnunet.CONFIGURATION}",
    )
    for name in ("plan_and_preprocess", "train", "predict"):
        program = programs / f"nnUNetv2_{name}"
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    wanted = {"nnunetv2": nnunet.VERSION, "torch": torch.__version__.partition("+")[0]}
    (home / "environment" / "installed.json").write_text(json.dumps(wanted), encoding="utf-8")
    return home


@pytest.mark.slow  # a training
def test_both_systems_get_the_same_seconds_and_cases(
    unconverted_bundle, played, reproduction, tmp_path, capsys
):
    data = unconverted_bundle.parent / "data"
    words = ["--bundle", unconverted_bundle, "--data", data, "--output", tmp_path / "runs"]
    words += ["--nnunet", played, "--budgets", 2, "--workers", 0]
    reproduction.run("budgets", *words)
    theirs, ours = reproduction.parts("budgets").read()
    assert (ours.settings["system"], theirs.settings["system"]) == ("volseg", "nnunet")
    assert ours.settings["budget"] == theirs.figures["seconds"] == 2
    assert ours.figures["steps"] > 0
    cases = [list(part.figures["scores"]["anterior"]["dice"]) for part in (ours, theirs)]
    assert cases == [["ball0", "ball3"]] * 2
    rows = {tuple(cells[:2]): cells for cells in reproduction.table("budgets")}
    cells = rows["2", "anterior"]
    assert cells[3] == "1.0000"
    assert float(cells[4].split()[0]) == pytest.approx(float(cells[2]) - 1, abs=1e-4)
    assert cells[-1] == "no"
    assert rows["3,600", "posterior"][2:5] == ["-", "-", "-"]
    log = (played / "log.txt").read_text(encoding="utf-8").splitlines()
    threads = torch.get_num_threads()
    assert f"nnUNetv2_train 0 {threads} 1 3d_fullres 0 -tr TimedTrainer -device cpu" in log

    # Again: neither is trained again.
    capsys.readouterr()
    reproduction.run("budgets", *words)
    assert capsys.readouterr().out.count("finished before") == 2


def test_a_failure_of_nnunet_is_told_and_shown(unconverted_bundle, played, reproduction, tmp_path):
    (played / "environment" / "bin" / "nnUNetv2_train").write_text("#!/bin/sh\nexit 3\n")
    data = unconverted_bundle.parent / "data"
    words = ["--bundle", unconverted_bundle, "--data", data, "--output", tmp_path / "runs"]
    words += ["--nnunet", played, "--budgets", 300, "--systems", "nnunet"]
    with pytest.raises(SystemExit, match="1 part.* failed: 300s_nnunet_seed0"):
        reproduction.run("budgets", *words)
    reproduction.table("budgets")
    text = reproduction.readme.read_text(encoding="utf-8")
    assert "`300s_nnunet_seed0` failed: VolsegError: nnUNetv2_train ended with 3" in text
    assert str(tmp_path) not in text


def test_what_was_prepared_for_other_cases_is_not_used(unconverted_bundle, played):
    cases = read_datalist(unconverted_bundle / "configs" / "datalist.json")
    data = unconverted_bundle.parent / "data"
    system = nnunet.NnUNet(played, threads=1)
    about = {"labels": {"anterior": 1}, "name": "balls", "channel": "MRI"}
    assert system.prepare(cases, data, **about) == system.prepare(cases, data, **about)
    with pytest.raises(InputError, match="was prepared for other cases or folds"):
        system.prepare(cases[1:], data, **about)


def test_the_data_set_is_linked_and_described(unconverted_bundle, tmp_path):
    cases = read_datalist(unconverted_bundle / "configs" / "datalist.json")
    data = unconverted_bundle.parent / "data"
    labels = {"anterior": 1, "posterior": 2}
    nnunet.write_data_set(tmp_path, cases, data, labels=labels, name="balls", channel="MRI")
    folder = tmp_path / nnunet.DATA_SET
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert description["channel_names"] == {"0": "MRI"}
    assert description["labels"] == {"background": 0, "anterior": 1, "posterior": 2}
    for case in cases:
        image = folder / "imagesTr" / f"{case.case}_0000.nii.gz"
        assert image.resolve() == (data / case.image).resolve()
        label = folder / "labelsTr" / f"{case.case}.nii.gz"
        assert label.resolve() == (data / case.label).resolve()


def test_folds_are_ours(unconverted_bundle):
    splits = nnunet.splits(read_datalist(unconverted_bundle / "configs" / "datalist.json"))
    assert [one["val"] for one in splits] == [
        ["ball0", "ball3"],
        ["ball1", "ball4"],
        ["ball2", "ball5"],
    ]
    assert splits[0]["train"] == ["ball1", "ball2", "ball4", "ball5"]


def test_what_nnunet_cannot_be_given_is_named(tmp_path):
    pictures = [Case("a", "images/a.png", "labels/a.png", "a", 0)]
    with pytest.raises(InputError, match=r"images/a\.png of the case a.*expected one image"):
        nnunet.write_data_set(tmp_path, pictures, tmp_path, labels={}, name="", channel="CT")


def test_a_prediction_that_is_not_there_is_named(unconverted_bundle, tmp_path):
    cases = read_datalist(unconverted_bundle / "configs" / "datalist.json")[:1]
    with pytest.raises(VolsegError, match="prediction of ball0 cannot be evaluated"):
        nnunet.read_predictions(
            tmp_path, cases, unconverted_bundle.parent / "data", labels={"anterior": 1}
        )
