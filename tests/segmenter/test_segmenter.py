"""The segmenter as a user meets it: settings, ensembles, maps, budgets, files, interruptions."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from volseg import Segmenter
from volseg.bundle import build_parts, open_bundle
from volseg.errors import (
    Cancelled,
    InputError,
    MemoryLimitError,
    OutputError,
    UnknownNameError,
)
from volseg.inference import SlidingWindowInferer
from volseg.networks import save_weights
from volseg.segmenter import Maps
from volseg.segmenter.in_memory import run_in_memory
from volseg.segmenter.process_memory import resident_bytes


def image_of(bundle, index=0):
    return bundle.parent / "data" / "images" / f"ball{index}.nii.gz"


def another(bundle):
    """A bundle like another one, with other weights: a second fold."""
    folder = bundle.parent / "second_fold"
    shutil.copytree(bundle, folder)
    parts = build_parts(open_bundle(bundle))
    with torch.no_grad():
        for weights in parts.network.parameters():
            weights.mul_(1 + 0.5 * torch.sin(torch.arange(weights.numel()).reshape(weights.shape)))
    save_weights(parts.network, folder / "models" / "model.pt")
    return folder


@pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [1.4, 0.8, 1.7]])
def test_parts_give_what_the_transforms_give_in_memory(tiny_bundle, spacing):
    from volseg.io import as_image

    path = tiny_bundle / "configs" / "inference.yaml"
    config = path.read_text()
    path.write_text(config.replace("spacing: [1.0, 1.0, 1.0]", f"spacing: {spacing}"))
    # Axes in another order and direction than the network's, and a side below the tile.
    affine = np.array([[0, 0, 0.9, 3], [-0.8, 0, 0, 40], [0, 1.2, 0, -7], [0, 0, 0, 1.0]])
    values = np.random.default_rng(0).normal(100, 20, (44, 37, 12)).astype(np.float32)
    image = as_image(values, affine)
    parts = build_parts(open_bundle(tiny_bundle))
    expected = run_in_memory(parts, image, torch.device("cpu"))
    found = Segmenter(tiny_bundle).segment(image)
    assert np.array_equal(found.numpy(), expected.numpy())
    assert found.dtype == expected.dtype
    assert torch.equal(found.affine, expected.affine)


def test_wrong_settings_are_refused_before_a_case(tiny_bundle):
    for settings, reason in (
        ({"tile": [16, 16]}, "have 3 sides, got"),
        ({"precision": "banana"}, "unknown precision"),
        ({"backend": "tensorflow"}, "unknown backend"),
    ):
        with pytest.raises(InputError, match=reason):
            Segmenter(tiny_bundle, settings=settings)
    for device in ("mps", "meta", "cuda:7", "abacus"):
        with pytest.raises(InputError, match=device):
            Segmenter(tiny_bundle, device=device)


def test_a_batch_of_tiles_is_planned_for(tiny_bundle):
    plans = []
    for tile_batch in (1, 8):
        settings = {"tile_batch": tile_batch, "tile": [64, 64, 64], "backend": "torch"}
        segmenter = Segmenter(tiny_bundle, memory_budget="4GB", settings=settings)
        segmenter.segment(image_of(tiny_bundle), planned=plans.append)

    def share(plan, what):
        return next(one.size for one in plan.stages["inference"] if one.what == what)

    assert share(plans[1], "a batch of tiles") == 8 * share(plans[0], "a batch of tiles")
    # 64^3 voxels x 4 feature maps and more, in float32: some megabytes a tile.
    at_work = [share(plan, "the network at work") for plan in plans]
    assert at_work[1] > at_work[0] + 20e6


def test_maps_are_in_the_plan(tiny_bundle, tmp_path):
    plans = []
    segmenter = Segmenter(tiny_bundle, memory_budget="4GB", body_above=50.0)
    segmenter.segment_file(
        image_of(tiny_bundle),
        tmp_path / "labels.nii.gz",
        probabilities=tmp_path / "p.nii.gz",
        planned=plans.append,
    )
    sizes = {share.what: share.size for share in plans[0].files}
    assert sizes["probabilities and other maps"] == 4 * 3 * 20 * 24 * 16


def test_the_label_map_is_there_only_if_the_maps_are(tiny_bundle, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("volseg.io.float_target.save_nifti", full_disk)
    with pytest.raises(OutputError, match=r"p\.nii\.gz"):
        Segmenter(tiny_bundle).segment_file(
            image_of(tiny_bundle), tmp_path / "labels.nii.gz", probabilities=tmp_path / "p.nii.gz"
        )
    assert not list(tmp_path.glob("labels*"))
    assert not list(tmp_path.glob("p.nii*"))


def test_settings_replace_those_of_the_bundle(tiny_bundle):
    image = image_of(tiny_bundle)
    plans = []
    for overlap in (0.0, 0.75):
        segmenter = Segmenter(tiny_bundle, settings={"overlap": overlap})
        segmenter.segment(image, planned=plans.append)
    assert [plan.tiles for plan in plans] == [4, 6]  # 20 x 24 x 16 voxels in tiles of 16
    with pytest.raises(UnknownNameError, match="unknown setting 'overlapp'"):
        Segmenter(tiny_bundle, settings={"overlapp": 0.5})
    with pytest.raises(InputError, match="overlap must be numbers"):
        Segmenter(tiny_bundle, settings={"overlap": 1.5})


def test_an_ensemble_is_the_mean_of_the_probabilities(tiny_bundle):
    members = [tiny_bundle, another(tiny_bundle)]
    found = Segmenter(members, settings={"backend": "torch"}).segment(image_of(tiny_bundle))
    logits, networks = [], []

    def mean(tiles):
        return (sum(network(tiles).softmax(1) for network in networks) / 2).log()

    for member in members:
        parts = build_parts(open_bundle(member))
        networks.append(parts.network)
        case = parts.preprocessing({"image": image_of(tiny_bundle)})
        inferer = SlidingWindowInferer([16, 16, 16])
        with torch.inference_mode():
            logits.append(inferer(case["image"].unsqueeze(0), parts.network))
    alone = [part.argmax(1).numpy() for part in logits]
    assert (alone[0] != alone[1]).mean() > 0.01
    # In each tile; tiles are blended as they always are.
    with torch.inference_mode():
        case["pred"] = SlidingWindowInferer([16, 16, 16])(case["image"].unsqueeze(0), mean)[0]
    expected = parts.postprocessing(case)["pred"].numpy()
    assert np.mean(found.numpy() == expected) > 0.999


def test_an_ensemble_of_different_tasks_is_refused(tiny_bundle):
    other = another(tiny_bundle)
    path = other / "configs" / "inference.yaml"
    config = path.read_text().replace("spacing: [1.0, 1.0, 1.0]", "spacing: [1.5, 1.0, 1.0]")
    assert config != path.read_text()
    path.write_text(config)
    with pytest.raises(InputError, match="tiny_bundle and second_fold differ in .*spacing"):
        Segmenter([tiny_bundle, other])


def test_members_of_different_temperatures_agree_on_labels_alone(tiny_bundle):
    """As folds whose temperatures were chosen on the other folds."""
    members, image = [tiny_bundle, another(tiny_bundle)], image_of(tiny_bundle)
    settings = {"backend": "torch"}
    expected = Segmenter(members, settings=settings).segment(image).numpy()
    path = members[1] / "configs" / "inference.yaml"
    config = path.read_text()
    path.write_text(config.replace("temperature: 1.0", "temperature: 1.3"))
    segmenter = Segmenter(members, settings=settings)
    assert np.array_equal(segmenter.segment(image).numpy(), expected)
    entropy = np.zeros(nib.load(image).shape, np.float32)
    with pytest.raises(InputError, match=r"different temperatures \(1, 1\.3\)"):
        segmenter.segment(image, maps=Maps(entropy=entropy))
    with pytest.raises(InputError, match=r"different temperatures \(1, 1\.3\)"):
        segmenter.require_probabilities()
    path.write_text(config.replace("threshold: 0.5", "threshold: 0.6"))
    with pytest.raises(InputError, match="second_fold differ in threshold or regions"):
        Segmenter(members)


def test_maps_of_probabilities_and_uncertainty(tiny_bundle):
    segmenter = Segmenter(tiny_bundle, clean=False, settings={"mirror_axes": [0]})
    shape = nib.load(image_of(tiny_bundle)).shape
    maps = Maps(
        np.zeros((3, *shape), np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    )
    labels = segmenter.segment(image_of(tiny_bundle), maps=maps).numpy()[0]
    assert np.allclose(maps.probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(maps.probabilities.argmax(0), labels)
    assert 0 < maps.entropy.min() < maps.entropy.max() <= 1
    assert 0 <= maps.disagreement.min() < maps.disagreement.max() <= 1
    with pytest.raises(InputError, match="at least two passes"):
        Segmenter(tiny_bundle).segment(
            image_of(tiny_bundle), maps=Maps(disagreement=maps.disagreement)
        )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".zarr"])
def test_probabilities_are_written_beside_the_label_map(tiny_bundle, tmp_path, suffix):
    segmenter = Segmenter(tiny_bundle, clean=False)
    path, output = tmp_path / f"p{suffix}", tmp_path / "labels.nii.gz"
    segmenter.segment_file(image_of(tiny_bundle), output, probabilities=path)
    if suffix == ".zarr":
        import zarr

        values = np.asarray(zarr.open(path, mode="r"))
    else:
        written = nib.load(path)
        assert np.array_equal(written.affine, nib.load(image_of(tiny_bundle)).affine)
        values = np.moveaxis(np.asarray(written.dataobj), -1, 0)
    assert np.allclose(values.sum(0), 1, atol=1e-5)
    assert np.array_equal(values.argmax(0), np.asarray(nib.load(output).dataobj))


def test_without_cleaning_the_label_map_is_the_networks(tiny_bundle):
    path = tiny_bundle / "configs" / "inference.yaml"
    path.write_text(path.read_text().replace("single_objects: []", "single_objects: null"))
    from scipy.ndimage import label

    cleaned = Segmenter(tiny_bundle).segment(image_of(tiny_bundle)).numpy()[0]
    plain = Segmenter(tiny_bundle, clean=False).segment(image_of(tiny_bundle)).numpy()[0]
    assert label(cleaned == 1, np.ones((3, 3, 3)))[1] <= 1
    assert (plain != cleaned).any()


def test_a_bundle_of_other_transforms_runs_in_memory(tiny_bundle):
    path = tiny_bundle / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    standardize = {"_target_": "monai.transforms.NormalizeIntensityd", "keys": "image"}
    config["preparation"][-1] = standardize
    path.write_text(json.dumps(config))
    path.rename(path.with_suffix(".json"))
    labels = Segmenter(tiny_bundle).segment(image_of(tiny_bundle))
    assert labels.shape[1:] == nib.load(image_of(tiny_bundle)).shape
    for options in ({"memory_budget": "4GB"}, {"clean": False}):
        with pytest.raises(InputError, match="need the whole volume at once"):
            Segmenter(tiny_bundle, **options)
    with pytest.raises(InputError, match="no probabilities"):
        Segmenter(tiny_bundle).segment(
            image_of(tiny_bundle), maps=Maps(entropy=np.zeros(labels.shape[1:], np.float32))
        )


def test_a_budget_that_does_not_do_is_refused_before_the_run(tiny_bundle, tmp_path):
    segmenter = Segmenter(tiny_bundle, memory_budget="50MB")
    done = []
    with pytest.raises(MemoryLimitError, match="50 MB are allowed"):
        segmenter.segment_file(
            image_of(tiny_bundle), tmp_path / "labels.nii.gz", progress=lambda *_: done.append(1)
        )
    assert not done
    assert not list(tmp_path.glob("labels*"))


def test_where_no_label_map_can_be_written_is_known_before_the_run(tiny_bundle, tmp_path):
    segmenter, done = Segmenter(tiny_bundle), []
    (tmp_path / "file").write_text("no folder can be made below a file")
    for name, error, reason in (
        ("labels.nrd", InputError, "suffix '.nrd' is not known"),
        ("labels.png", InputError, "a picture holds one 2D image"),
        ("file/labels.nii.gz", OutputError, "Not a directory"),
        ("data/labels.nrrd", OutputError, "it is a folder"),
    ):
        (tmp_path / "data" / "labels.nrrd").mkdir(exist_ok=True)
        with pytest.raises(error, match=reason):
            segmenter.segment_file(
                image_of(tiny_bundle), tmp_path / name, progress=lambda *_: done.append(1)
            )
    assert not done


_RUN = """
import json, multiprocessing, sys
from pathlib import Path
from volseg import Segmenter
from volseg.errors import Cancelled

def run(image):
    settings = {"tile": [64, 64, 64], "overlap": 0.0}
    plans = []
    try:  # only to see what the process holds without a run
        segmenter = Segmenter(bundle, memory_budget="9GB", settings=settings)
        segmenter.segment_file(image, output, planned=plans.append, cancelled=lambda: True)
    except Cancelled:
        tight = plans[0].resident + 60_000_000
    segmenter = Segmenter(bundle, memory_budget=tight, settings=settings)
    segmenter.segment_file(image, output, planned=plans.append)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    found = {"peak": 1024 * peak, "budget": tight, "held": plans[1].resident}
    print(json.dumps({**found, "expected": plans[1].expected_peak}))

bundle, output, *images = sys.argv[1:]
for image in images:
    process = multiprocessing.get_context("fork").Process(target=run, args=(image,))
    process.start()
    process.join()
    assert process.exitcode == 0, image
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_plan_is_kept_whatever_the_length(tiny_bundle, tmp_path):
    """In processes of their own; what the run adds does not grow with the volume."""
    generator = np.random.default_rng(0)
    images = [str(tmp_path / f"{planes}.nii") for planes in (100, 400)]
    for planes, image in zip((100, 400), images, strict=True):
        values = generator.normal(100, 20, (160, 160, planes)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 1, 1])), image)
    command = [sys.executable, "-c", _RUN, str(tiny_bundle), str(tmp_path / "labels.nii.gz")]
    run = subprocess.run([*command, *images], check=True, capture_output=True, text=True)
    added = []
    for line in run.stdout.splitlines():
        found = json.loads(line)
        assert found["expected"] <= found["budget"]
        assert 0.9 < found["peak"] / found["expected"] < 1.1
        added.append(found["peak"] - found["held"])
    # The longer volume has 31 MB more of voxels, 8 MB of labels and 92 MB of logits.
    assert added[1] < 1.15 * added[0] + 15e6


def test_cancelling_leaves_no_file(tiny_bundle, tmp_path):
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        Segmenter(tiny_bundle).segment_file(
            image_of(tiny_bundle),
            tmp_path / "out" / "labels.nii.gz",
            probabilities=tmp_path / "out" / "p.nii",
            cancelled=cancelled,
        )
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_an_interrupted_command_leaves_nothing_half_written(tiny_bundle, tmp_path):
    values = np.random.default_rng(0).normal(100, 20, (160, 160, 200)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 1, 1])), tmp_path / "long.nii")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    # A test run in the background of a shell has its interruptions switched off.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{listening}; from volseg.cli.main import main; main()"
    command = [sys.executable, "-c", program, "segment", str(tmp_path / "long.nii")]
    command += ["-o", str(tmp_path / "out"), "--bundle", str(tiny_bundle)]
    command += ["--probabilities", "nii", "--overlap", "0.75"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and not list((tmp_path / "out").glob("*")):
            time.sleep(0.05)  # until the first probabilities are on their way
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert not list((tmp_path / "out").glob("*"))
    assert not list((tmp_path / "temporary").glob("*"))


def test_a_hundred_cases_hold_no_more_memory_than_ten(tiny_bundle):
    segmenter = Segmenter(tiny_bundle)
    image = image_of(tiny_bundle)
    held = []
    for case in range(100):
        segmenter.segment(image)
        if case in (9, 99):
            held.append(resident_bytes())
    # A leaked case would hold its logits: 20 x 24 x 16 x 3 float32, 9 MB over these cases.
    assert held[1] - held[0] < 5e6


def test_a_precision_that_the_processor_lacks(tiny_bundle, caplog):
    """f16 arithmetic on a CPU exists on few of them; asked for it is needed, by default not."""
    from volseg.predictors import openvino_backend

    missing = None
    for precision in ("f16", "bf16"):
        try:
            openvino_backend.require(precision)
        except InputError:
            missing = precision
    if missing is None:
        pytest.skip("this processor has every precision")
    strict = {"precision": missing, "require_precision": True}
    with pytest.raises(InputError, match=f"no instructions for {missing}"):
        Segmenter(tiny_bundle, settings=strict).segment(image_of(tiny_bundle))
    caplog.set_level(logging.WARNING)
    found = Segmenter(tiny_bundle, settings={"precision": missing}).segment(image_of(tiny_bundle))
    assert "f32 is used" in caplog.text
    expected = Segmenter(tiny_bundle).segment(image_of(tiny_bundle))
    assert np.array_equal(found.numpy(), expected.numpy())
