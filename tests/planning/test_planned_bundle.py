"""Planned bundles train and segment like any other, through every door."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import run as bundle_run
from PIL import Image

from volseg import Segmenter
from volseg.bundle import compose, composition_of, open_bundle, verify_bundle
from volseg.cli.main import main
from volseg.data import Case, read_datalist, write_datalist
from volseg.transforms import read_standardization

from .conftest import write_case


def run(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def configs(bundle, name):
    return yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text())


@pytest.mark.slow
def test_a_volume_bundle_is_planned_trained_and_segments(data, tmp_path, capfd, monkeypatch):
    damaged = data / "images" / "case3.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    bundle = tmp_path / "boxes"
    planning = ("plan", data, "-o", bundle, "--labels", "box,cube", "--modality", "CT")
    assert run(*planning, "--memory", "4GB", "--json") == 1
    printed = json.loads(capfd.readouterr().out)
    assert printed["bundle"] == str(bundle)
    assert [fault["case"] for fault in printed["left_out"]] == ["case3"]
    assert printed["cases"] == 5
    assert printed["step_bytes"]["total"] < 4e9
    assert list(tmp_path.glob("*.jsonl")) == []

    kept = json.loads((bundle / "configs" / "fingerprint.json").read_text())
    listed = read_datalist(bundle / "configs" / "datalist.json")
    assert [case["case"] for case in kept["cases"]] == [case.case for case in listed]
    assert "case3" not in {case.case for case in listed}
    (fitted,) = read_standardization(bundle / "configs" / "standardization.json").channels
    foreground = np.concatenate(
        [
            nib.load(data / case.image).get_fdata()[nib.load(data / case.label).get_fdata() > 0]
            for case in listed
        ]
    )
    assert fitted.mean == pytest.approx(foreground.mean())
    failed = {check.name for check in verify_bundle(bundle) if not check.passed}
    assert failed == {"files", "safe building and weights", "network output"}  # untrained
    composition = composition_of(open_bundle(bundle).metadata, "")
    for name, text in compose(composition).items():
        assert (bundle / "configs" / name).read_text() == text

    train = configs(bundle, "train")
    assert (train["spacing"], train["patch"]) == ([1.0, 1.0, 2.0], [24, 20, 16])
    edited = bundle / "configs" / "train.yaml"
    text = edited.read_text()
    for name, value in {"patches": 1, "epochs": 1, "workers": 0, "batch_size": 2}.items():
        text = re.sub(rf"^{name}: \S+", f"{name}: {value}", text, flags=re.MULTILINE)
    edited.write_text(text)
    capfd.readouterr()
    assert run("train", bundle, "--data", data, "-o", tmp_path / "trained", "--json") == 0
    assert 0 <= json.loads(capfd.readouterr().out)["metrics"]["dice_box"] <= 1
    image = data / "images" / "case0.nii.gz"
    assert Segmenter(tmp_path / "trained").segment(image).shape == (1, 24, 20, 16)

    monkeypatch.chdir(bundle)
    bundle_run(
        config_file="configs/train.yaml",
        dataset_dir=str(data),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    by_monai, by_us = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "run" / "model.pt", tmp_path / "trained" / "models" / "model.pt")
    )
    assert all(torch.equal(by_monai[name], by_us[name]) for name in by_us)


def test_pictures_with_any_label_value_are_planned(tmp_path, capfd):
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for index in range(5):
        inside = np.zeros((40, 48), bool)
        inside[8:24, 10 + index : 30 + index] = True
        picture = (random.normal(60, 10, (40, 48, 3)) + 100 * inside[..., np.newaxis]).clip(0, 255)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "data/images" / f"{index}.png")
        labels = np.where(inside, 255, 0).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "data/labels" / f"{index}.png")
    bundle = tmp_path / "[a]" / "squares"  # no style of the terminal
    assert run("plan", tmp_path / "data", "-o", bundle, "--preset", "M") == 0
    printed = capfd.readouterr()
    assert printed.out.strip() == str(bundle)
    assert f"train it with: volseg train {bundle} " in printed.err
    why = composition_of(open_bundle(bundle).metadata, "").reasons["recipe"]
    assert why == "two axes; each picture is standardised by itself"
    assert f"recipe pictures {why}" in " ".join(printed.err.split())
    train = configs(bundle, "train")
    assert open_bundle(bundle).labels == {"label_255": 1}
    assert (train["in_channels"], train["patch"]) == (3, [48, 40])
    assert (train["stored_labels"], train["network_def"]["name"]) == ([0, 255], "resencunet")


def test_what_nobody_labelled_counts_in_no_standardisation(tmp_path):
    """All is about 50, but what is ignored, which is about 1000."""
    labels = np.zeros((24, 20, 16), np.uint8)
    labels[4:10, 4:10, 4:10] = 1
    labels[14:] = 255
    for index in range(6):
        noise = np.random.default_rng(index).normal(50, 5, labels.shape)
        values = (noise + 950 * (labels == 255)).astype(np.float32)
        write_case(tmp_path / "data", f"case{index}", labels=labels, values=values)
    bundle = tmp_path / "boxes"
    words = ("--labels", "box", "--ignore", 255, "--modality", "CT", "--memory", "4GB")
    assert run("plan", tmp_path / "data", "-o", bundle, *words) == 0
    (fitted,) = read_standardization(bundle / "configs" / "standardization.json").channels
    assert fitted.mean == pytest.approx(50, abs=1)


def test_a_datalist_keeps_its_folds_and_refuses_options_that_deal_others(data, tmp_path, capfd):
    cases = [
        Case(f"case{i}", f"images/case{i}.nii.gz", f"labels/case{i}.nii.gz", f"p{i // 2}", i // 2)
        for i in range(6)
    ]
    datalist, bundle = tmp_path / "list.json", tmp_path / "boxes"
    write_datalist(cases, datalist, about={"labels": {"1": "box", "2": "cube"}})
    planning = ("plan", datalist, "-o", bundle, "--data", data, "--memory", "4GB")
    for option in (("--patients", "p.csv"), ("--folds", 10), ("--stratify", "site")):
        assert run(*planning, *option) == 2
        said = " ".join(capfd.readouterr().err.split())
        assert f"{option[0]} is of a folder, but the datalist" in said
    assert run(*planning) == 0
    assert read_datalist(bundle / "configs" / "datalist.json") == cases
    assert open_bundle(bundle).labels == {"box": 1, "cube": 2}


def test_channels_in_files_of_their_own_are_planned_as_nnunet_names_them(tmp_path, capfd):
    for index in range(5):
        for number, shift in enumerate((0, 100)):
            write_case(tmp_path, f"p{index}_{number:04}", seed=index + shift)
        (tmp_path / "labels" / f"p{index}_0000.nii.gz").rename(
            tmp_path / "labels" / f"p{index}.nii.gz"
        )
        (tmp_path / "labels" / f"p{index}_0001.nii.gz").unlink()
    (tmp_path / "images").rename(tmp_path / "imagesTr")
    (tmp_path / "labels").rename(tmp_path / "labelsTr")
    content = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "left box": 1, "right box": 2},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert run("plan", tmp_path, "-o", tmp_path / "brain", "--json") == 0
    made = json.loads(capfd.readouterr().out)["composition"]
    assert (made["recipe"], made["channels"]) == ("mr", ["T1", "FLAIR"])
    assert made["values"]["mirror_axes"] == [1, 2]
    case = read_datalist(tmp_path / "brain" / "configs" / "datalist.json")[0]
    assert case.image == {"T1": "imagesTr/p0_0000.nii.gz", "FLAIR": "imagesTr/p0_0001.nii.gz"}
    # The same with one channel.
    for path in (tmp_path / "imagesTr").glob("*_0001.nii.gz"):
        path.unlink()
    content["channel_names"] = {"0": "T1"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert run("plan", tmp_path, "-o", tmp_path / "single", "--json") == 0
    assert json.loads(capfd.readouterr().out)["composition"]["channels"] == ["T1"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--preset", "S"), "unknown preset 'S'"),
        (("--spacing", "1,x"), "expected sizes in mm"),
        (("--spacing", "1,1"), "has 2 numbers, but the images have 3 axes"),
        (("--memory", "1MB"), "no network of 3 levels fits"),
        (("--labels", "box"), "holds 2, which no class stands for"),
        (("--channels", "t1,t2"), "1 channels, but these are named: t1, t2"),
        (("--folds", "9"), "cannot make 9 folds"),
        (("--data", "elsewhere"), "--data is of a datalist, but"),
    ],
)
def test_mistakes_are_answered_in_a_sentence_and_leave_no_bundle(
    data, tmp_path, capfd, options, sentence
):
    assert run("plan", data, "-o", tmp_path / "boxes", *options) == 2
    assert sentence in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "boxes").exists()


def test_left_out_cases_are_named_though_planning_fails_because_of_them(data, tmp_path, capfd):
    damaged = data / "images" / "case3.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    assert run("plan", data, "-o", tmp_path / "boxes", "--folds", "6", "--memory", "4GB") == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "left out: case3: " in said
    assert said.index("left out") < said.index("5 patients cannot make 6 folds")


def test_a_bundle_is_planned_into_the_folder_one_is_in(data, tmp_path, capfd, monkeypatch):
    (tmp_path / "boxes").mkdir()
    monkeypatch.chdir(tmp_path / "boxes")
    assert run("plan", data, "-o", ".", "--memory", "4GB") == 0
    assert open_bundle(tmp_path / "boxes").labels == {"label_1": 1, "label_2": 2}
    assert capfd.readouterr().out
    assert list(tmp_path.glob("*.jsonl")) == []


def test_what_is_kept_in_memory_is_reckoned_for_the_largest_fold(
    data, tmp_path, capfd, monkeypatch
):
    """Five of six cases are of one patient; half of the memory holds two."""
    patients = tmp_path / "patients.csv"
    rows = [f"case{index},{'one' if index else 'other'}" for index in range(6)]
    patients.write_text("\n".join(["case,patient", *rows]))
    monkeypatch.setattr("volseg.planning.plan.memory_of_job", lambda: 2 * 2 * 5 * 24 * 20 * 16)
    options = ("--patients", patients, "--folds", 2, "--memory", "4GB", "--json")
    assert run("plan", data, "-o", tmp_path / "boxes", *options) == 0
    assert json.loads(capfd.readouterr().out)["composition"]["values"]["cached"] == 0.4


@pytest.mark.parametrize("option", ["--spacing=1,1", "--modality=CT"])
def test_options_of_volumes_are_refused_for_pictures(tmp_path, capfd, option):
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for index in range(2):
            values = np.random.default_rng(index).integers(0, 2, (40, 48)).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / "data" / kind / f"{index}.png")
    assert run("plan", tmp_path / "data", "-o", tmp_path / "squares", option) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"{option.partition('=')[0]}" in said
    assert "but these are pictures" in said


def test_a_folder_in_use_is_refused_before_any_case_is_read(data, tmp_path, capfd):
    assert run("plan", data, "-o", data) == 2
    assert "is not empty" in " ".join(capfd.readouterr().err.split())
    assert list(tmp_path.glob("*.jsonl")) == []


@pytest.mark.data
def test_the_hippocampus_is_planned_as_nnunet_plans_it(data_root, tmp_path, capfd):
    source = data_root / "msd_hippocampus"
    words = ("--labels", "anterior,posterior", "--modality", "MR", "--json")
    assert run("plan", source, "-o", tmp_path / "hippocampus", *words) == 0
    made = json.loads(capfd.readouterr().out)
    values = made["composition"]["values"]
    # Isensee et al. 2021: 40 x 56 x 40 at 1 mm; the batch is 5 % of the 192 cases that are here.
    assert (values["spacing"], values["patch"]) == ([1.0, 1.0, 1.0], [40, 56, 40])
    assert (values["batch_size"], values["widths"]) == (7, [32, 64, 128, 256])
    assert values["mirror_axes"] == [0, 2]
    assert made["cases"] == 192
