"""Nested structures and labels that leave voxels out: planned, trained, segmented, judged."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import run as bundle_run
from PIL import Image

from volseg import Segmenter, read_image
from volseg.bundle import build_parts, open_bundle, verify_bundle
from volseg.choosing import learn_quality, measure_bundle
from volseg.cli.main import main
from volseg.errors import InputError
from volseg.io import as_image, write_image, write_segmentation
from volseg.segmenter import Maps
from volseg.segmenter.dicom_results import DicomResults
from volseg.segmenter.in_memory import run_in_memory
from volseg.training import class_names

DATASET = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4},
    "regions_class_order": [1, 2, 3],
}
SHORT = ("--set", "batch_size=2", "--set", "patches=1", "--set", "workers=0")


def run(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def nested(shape: tuple[int, ...], shift: int) -> np.ndarray:
    """Return three boxes within each other, and a corner that nobody labelled."""
    labels = np.zeros(shape, np.uint8)
    for value, margin in ((1, 3), (2, 5), (3, 6)):
        labels[tuple(slice(margin + shift, side - margin) for side in shape)] = value
    labels[tuple(slice(0, 3) for _ in shape)] = 4
    return labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data of nnU-Net's kind, and the bundle planned for them after two steps."""
    folder = tmp_path_factory.mktemp("regions")
    data, random = folder / "data", np.random.default_rng(0)
    for index in range(5):
        labels = nested((20, 18, 16), index % 2)
        truth = np.where(labels == 4, 0, labels)
        for number, sign in ((0, 1), (1, -1)):
            values = (100 + sign * 30.0 * truth + random.normal(0, 5, labels.shape)).astype("f4")
            image = as_image(values, np.diag([1.0, 1.0, 1.5, 1.0]))
            write_image(image, data / "imagesTr" / f"p{index}_{number:04}.nii.gz")
        write_segmentation(labels, data / "labelsTr" / f"p{index}.nii.gz", like=image)
    (data / "dataset.json").write_text(json.dumps(DATASET))
    planned = folder / "tumour"
    assert run("plan", data, "-o", planned, "--memory", "3GB") == 0
    narrow(planned)
    words = ("--data", data, "-o", folder / "trained", "--epochs", 1)
    assert run("train", planned, *words, *SHORT) == 0
    return folder / "trained"


def narrow(bundle):
    """Make the network of a planned bundle so small that its steps take no time."""
    for name in ("train", "inference"):
        path = bundle / "configs" / f"{name}.yaml"
        text = path.read_text()
        changes = {"widths": [4] * len(yaml.safe_load(text)["widths"]), "backend": "torch"}
        for entry, value in changes.items():
            text = re.sub(rf"^{entry}: .*$", f"{entry}: {value}", text, flags=re.MULTILINE)
        path.write_text(text)


@pytest.fixture
def data(trained):
    return trained.parent / "data"


@pytest.fixture
def case(data):
    return {name: data / "imagesTr" / f"p0_000{n}.nii.gz" for n, name in enumerate(("T1", "FLAIR"))}


def test_the_plan_says_what_nnunet_was_told(trained):
    bundle = open_bundle(trained)
    assert bundle.labels == {"whole_rest": 1, "core_rest": 2, "active": 3}
    assert bundle.regions == {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}
    assert (bundle.structures, bundle.ignore) == (bundle.regions, 4)
    assert (bundle.out_channels, bundle.channels) == (3, ["T1", "FLAIR"])
    train = yaml.safe_load((trained / "configs" / "train.yaml").read_text())
    assert (train["classes"], train["ignore"]) == (4, 4)
    assert len(train["class_ratios"]) == 4
    assert [check.detail for check in verify_bundle(trained) if not check.passed] == []
    assert class_names(trained) == ["whole", "core", "active"]
    fingerprint = json.loads((trained / "configs" / "fingerprint.json").read_text())
    assert set(fingerprint["cases"][0]["labels"]) == {"1", "2", "3"}


def test_labels_are_written_by_nnunets_rule(trained, case):
    """The rule of its LabelManager: regions in order, each over what is there, above one half."""
    segmenter = Segmenter(trained)
    probabilities = np.zeros((3, 20, 18, 16), np.float32)
    found = segmenter.segment(case, maps=Maps(probabilities=probabilities)).numpy()[0]
    expected = np.zeros(found.shape, np.uint8)
    for channel, label in zip(probabilities, (1, 2, 3), strict=True):
        expected[channel > 0.5] = label
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)
    parts = build_parts(open_bundle(trained))
    image = parts.preprocessing({"image": read_image(case)})["image"]
    with torch.inference_mode():
        logits = parts.inferer(image[None], parts.network)[0].numpy()
    sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert np.allclose(probabilities, sigmoid, atol=2e-6)  # no background among them


def test_every_door_gives_the_same_label_map(trained, data, case, tmp_path, capfd):
    expected = Segmenter(trained).segment(case).numpy()[0]
    words = [word for name, path in case.items() for word in ("--channel", f"{name}={path}")]
    out = tmp_path / "command"
    assert run("segment", *words, "-o", out, "--bundle", trained, "--case", "p0") == 0
    capfd.readouterr()
    bundle_run(
        config_file=str(trained / "configs" / "inference.yaml"),
        bundle_root=str(trained),
        dataset_dir=str(data / "imagesTr"),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    for path in (out / "p0_seg.nii.gz", tmp_path / "run" / "p0_seg.nii.gz"):
        assert np.array_equal(np.asarray(nib.load(path).dataobj), expected)
    in_memory = run_in_memory(
        build_parts(open_bundle(trained)), read_image(case), torch.device("cpu")
    )
    assert np.array_equal(in_memory.numpy()[0], expected)
    Segmenter(trained, memory_budget="3GB").segment_file(case, tmp_path / "budget.nii.gz")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "budget.nii.gz").dataobj), expected)


def test_probabilities_of_regions_are_no_classes_of_a_dicom_seg(trained, case):
    files = {"dicom-probabilities": trained / "soft.dcm"}
    with pytest.raises(InputError, match="of regions .whole, core, active., not of classes"):
        DicomResults(files, source=None).room_for_probabilities(Segmenter(trained), ExitStack())


def test_backends_agree_also_on_mirrored_tiles(trained, case):
    torch_only, converted = (
        Segmenter(trained, settings={"backend": backend}) for backend in ("torch", "openvino")
    )
    for mirrored in ([], [0]):
        first, second = (
            one.with_settings({"mirror_axes": mirrored}).segment(case).numpy()
            for one in (torch_only, converted)
        )
        assert np.array_equal(first, second)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
def test_cases_are_judged_by_region_without_what_nobody_labelled(trained, data, tmp_path):
    evaluation = measure_bundle(trained, data)
    assert evaluation.labels == {"whole": (1, 2, 3), "core": (2, 3), "active": 3}
    (name,) = evaluation.cases
    whole = evaluation.rows[0]
    reference = np.asarray(nib.load(data / "labelsTr" / f"{name}.nii.gz").dataobj)
    assert whole.reference_voxels == np.isin(reference, (1, 2, 3)).sum()
    # Every label leaves voxels out, and the prediction alone is too few.
    with pytest.raises(InputError, match="from 1 cases"):
        learn_quality(trained, data)
    bundle_run(
        config_file=[str(trained / "configs" / f"{n}.yaml") for n in ("inference", "evaluate")],
        bundle_root=str(trained),
        dataset_dir=str(data),
        output_dir=str(tmp_path),
        logging_file=False,
    )
    _, line = (tmp_path / "mean_dice_raw.csv").read_text().splitlines()
    assert [float(value) for value in line.split(",")[1:4]] == pytest.approx(
        [row.dice for row in evaluation.rows], abs=1e-3
    )


def test_pictures_with_regions_are_planned_trained_and_segmented(tmp_path):
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for index in range(5):
        labels = nested((40, 32), index % 2)
        stored = np.choose(labels, [0, 60, 120, 180, 255]).astype(np.uint8)
        shown = (60 + 40 * (labels % 4)[..., None] + random.normal(0, 5, (40, 32, 2))).clip(0, 255)
        picture = np.concatenate([shown, shown[..., :1]], axis=-1).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{index}.png")
        Image.fromarray(stored).save(tmp_path / "data" / "labels" / f"{index}.png")
    options = ("--region", "cell=60,120,180", "--region", "nucleus=120,180", "--ignore", 255)
    options += ("--region", "nucleolus=180")
    planned, data = tmp_path / "cells", tmp_path / "data"
    assert run("plan", data, "-o", planned, "--memory", "3GB", *options) == 0
    narrow(planned)
    train = yaml.safe_load((planned / "configs" / "train.yaml").read_text())
    assert train["stored_labels"] == [0, 60, 120, 180, 255]
    assert train["stored_classes"] == [0, 1, 2, 3, 255]
    words = ("train", planned, "--data", data, "-o", tmp_path / "trained", "--epochs", 1)
    assert run(*words, *SHORT) == 0
    labels = Segmenter(tmp_path / "trained").segment(data / "images" / "0.png")
    assert labels.shape == (1, 32, 40)
    assert set(np.unique(labels.numpy())) <= {0, 1, 2, 3}
