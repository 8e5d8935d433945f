"""Thresholds and temperatures: what is found on cases that are known, and what a bundle does."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run as bundle_run

from volseg import Segmenter
from volseg.bundle import compose, open_bundle, verify_bundle, write_metadata
from volseg.choosing import (
    CaseEvidence,
    ThresholdChoice,
    choose_temperature,
    choose_threshold,
    gather_evidence,
    record_decisions,
    record_measurement,
)
from volseg.choosing.evidence import THRESHOLDS, tempered
from volseg.choosing.held_out import require_unseen, unseen_cases
from volseg.cli.main import main
from volseg.errors import InputError, UnknownNameError
from volseg.segmenter import Maps


@pytest.fixture
def binary_bundle(torch_bundle):
    """The tiny bundle with one class, what was its second channel: labels 1 and 2 are one."""
    from dataclasses import replace

    import torch

    from volseg.bundle import composition_of, network_data_format
    from volseg.networks import read_weights

    bundle = open_bundle(torch_bundle)
    composition = replace(composition_of(bundle.metadata, ""), labels=("ball",))
    for name, text in compose(composition).items():
        (torch_bundle / "configs" / name).write_text(text)
    metadata = {
        **bundle.metadata,
        "composition": composition.as_metadata(),
        "network_data_format": network_data_format(composition),
    }
    write_metadata(bundle, metadata)
    state = read_weights(bundle.weights)
    cut = {
        name: value[:2] if value.shape[0] == 3 and "head" in name else value
        for name, value in state.items()
    }
    torch.save(cut, bundle.weights)
    for file in (torch_bundle.parent / "data" / "labels").iterdir():
        stored = nib.load(file)
        nib.save(
            nib.Nifti1Image((np.asarray(stored.dataobj) > 0).astype(np.uint8), stored.affine), file
        )
    return torch_bundle


def probabilities_of(bundle, case):
    image = bundle.parent / "data" / "images" / f"{case}.nii.gz"
    found = np.zeros((open_bundle(bundle).out_channels, *nib.load(image).shape), np.float32)
    labels = Segmenter(bundle, clean=False).segment(image, maps=Maps(probabilities=found))
    return labels.numpy()[0], found


def reference_of(bundle, case):
    file = bundle.parent / "data" / "labels" / f"{case}.nii.gz"
    return np.asarray(nib.load(file).dataobj)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_the_threshold_is_the_best_of_all_of_them(binary_bundle, monkeypatch):
    data = binary_bundle.parent / "data"
    monkeypatch.setattr("volseg.choosing.evidence._BLOCK", 1000)  # less than a case has
    evidence = gather_evidence(binary_bundle, data, fold=1)
    assert [(case.case, case.fold) for case in evidence] == [("ball1", 1), ("ball4", 1)]
    choice = choose_threshold(evidence)
    cases = [
        (probabilities_of(binary_bundle, case)[1][1], reference_of(binary_bundle, case) > 0)
        for case in ("ball1", "ball4")
    ]
    for metric, score in (
        ("dice", dice),
        ("pixel_accuracy", lambda found, truth: (found == truth).mean()),
    ):
        choice = choose_threshold(evidence, metric=metric)
        expected = [np.mean([score(p > t, truth) for p, truth in cases]) for t in THRESHOLDS]
        np.testing.assert_allclose([reached for _, reached in choice.curve], expected, atol=1e-6)
        assert choice.after >= max(expected) - 1e-4
        assert choice.before == pytest.approx(expected[99])
        assert choice.after == pytest.approx(expected[round(choice.value * 200) - 1])
    with pytest.raises(UnknownNameError, match="unknown metric 'dic'"):
        choose_threshold(evidence, metric="dic")


def test_choices_are_stored_and_hold_at_every_door(binary_bundle, tmp_path, capfd):
    data = binary_bundle.parent / "data"
    plain_labels, plain = probabilities_of(binary_bundle, "ball0")
    words = [str(binary_bundle), "--data", str(data), "--fold", "1"]
    with pytest.raises(SystemExit, match="0"):
        main(["bundle", "threshold", *words])
    assert "threshold" in capfd.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["bundle", "calibrate", *words, "--json"])
    calibrated = json.loads(capfd.readouterr().out)
    kept = json.loads((binary_bundle / "configs" / "decision.json").read_text())
    assert kept["temperature"] == calibrated
    assert len(kept["threshold"]["curve"]) == 199
    threshold, temperature = kept["threshold"]["value"], calibrated["value"]
    assert threshold != 0.5
    assert calibrated["expected_calibration_error"][1] < calibrated["expected_calibration_error"][0]
    assert calibrated["negative_log_likelihood"][1] < calibrated["negative_log_likelihood"][0]
    assert [check.name for check in verify_bundle(binary_bundle) if not check.passed] == []
    changes = open_bundle(binary_bundle).metadata["changelog"]
    assert "chosen on 2 held-out cases" in changes["0.1.2"]
    assert "expected calibration error" in changes["0.1.3"]

    labels, found = probabilities_of(binary_bundle, "ball0")
    clear = np.abs(plain[1] - threshold) > 1e-6
    assert np.array_equal(labels[clear], (plain[1] > threshold)[clear])
    assert not np.array_equal(labels, plain_labels)
    expected = tempered(plain.astype(np.float64), temperature, exclusive=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)

    image = data / "images" / "ball0.nii.gz"
    cleaned = Segmenter(binary_bundle).segment(image).numpy()[0]
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(image), "-o", str(tmp_path / "cli"), "--bundle", str(binary_bundle)])
    bundle_run(
        config_file=str(binary_bundle / "configs" / "inference.yaml"),
        bundle_root=str(binary_bundle),
        dataset_dir=str(data / "images"),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    capfd.readouterr()
    for door in ("cli", "run"):
        written = nib.load(tmp_path / door / "ball0_seg.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), cleaned)
    # What was chosen does not change what is gathered, so that choosing again is no drift.
    again = choose_temperature(gather_evidence(binary_bundle, data, fold=1))
    assert again.value == pytest.approx(temperature, rel=1e-3)


def test_a_temperature_that_is_known_is_found_again():
    """Targets drawn from probabilities; what is said is twice as sure in logits."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 20_000)) * 2
    truth = np.exp(logits) / np.exp(logits).sum(0)
    targets = (random.random(20_000) > truth.cumsum(0)).sum(0).astype(np.uint8)
    said = np.exp(2 * logits) / np.exp(2 * logits).sum(0)
    nothing = np.zeros((0, len(THRESHOLDS)), np.int64)
    case = CaseEvidence(
        "a", 0, nothing, nothing, np.zeros(0, np.int64), 20_000, said.astype(np.float32), targets
    )
    choice = choose_temperature([case])
    assert choice.value == pytest.approx(2, rel=0.03)
    before, after = choice.expected_calibration_error
    assert before > 0.08
    assert after < 0.02
    with pytest.raises(InputError, match="two classes, or for regions"):
        choose_threshold([case])
    with pytest.raises(InputError, match="no held-out cases"):
        choose_temperature([])


def test_evidence_that_is_damaged_is_gathered_again(tmp_path):
    path, nothing = tmp_path / "a.npz", np.zeros((0, len(THRESHOLDS)), np.int64)
    sample = np.ones((3, 5), np.float32), np.zeros(5, np.uint8)
    CaseEvidence("a", 0, nothing, nothing, np.zeros(0, np.int64), 5, *sample, "b").save(path)
    assert CaseEvidence.kept(path, "b").case == "a"
    content = bytearray(path.read_bytes())
    lengths = (int.from_bytes(content[at : at + 2], "little") for at in (26, 28))
    content[30 + sum(lengths)] = 0xFF  # behind the header of the first entry: no block is such
    path.write_bytes(content)
    assert CaseEvidence.kept(path, "b") is None


def test_cases_that_were_trained_on_say_nothing(torch_bundle):
    bundle = open_bundle(torch_bundle)
    bundle = write_metadata(bundle, {**bundle.metadata, "training": {"fold": 0}})
    data = torch_bundle.parent / "data"
    with pytest.raises(InputError, match=r"was trained on the cases of fold 1 \(0 was held out\)"):
        gather_evidence(torch_bundle, data, fold=1)
    assert len(gather_evidence(torch_bundle, data, fold=0)) == 2
    members = [{"name": "a", "fold": 0}, {"name": "b", "members": [{"name": "c", "fold": 2}]}]
    ensemble = write_metadata(bundle, {**bundle.metadata, "training": {}, "ensemble": members})
    with pytest.raises(InputError, match="c was trained on the cases of fold 0"):
        require_unseen(ensemble, 0)
    everything = write_metadata(bundle, {**bundle.metadata, "training": {"fold": "all"}})
    with pytest.raises(InputError, match="none was held out"):
        require_unseen(everything, 0)
    own = torch_bundle / "configs" / "datalist.json"
    with pytest.raises(InputError, match="none was held out"):
        unseen_cases(torch_bundle, own, data, fold=0)
    others = shutil.copy(own, data / "others.json")
    assert len(unseen_cases(torch_bundle, others, data, fold=0)) == 2


def test_weights_of_a_run_are_judged_on_what_it_held_out(torch_bundle):
    bundle = open_bundle(torch_bundle)
    write_metadata(bundle, {**bundle.metadata, "training": {"fold": 0}})
    own, data = torch_bundle / "configs" / "datalist.json", torch_bundle.parent / "data"
    run = torch_bundle / "runs" / "fold1"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"settings": {"fold": 1}}))
    weights = run / "model.pt"
    assert len(unseen_cases(torch_bundle, own, data, fold=1, checkpoint=weights)) == 2
    with pytest.raises(InputError, match=r"model\.pt was trained on the cases of fold 0"):
        unseen_cases(torch_bundle, own, data, fold=0, checkpoint=weights)
    for others in (None, bundle.weights):
        assert len(unseen_cases(torch_bundle, own, data, fold=0, checkpoint=others)) == 2
        with pytest.raises(InputError, match="was trained on the cases of fold 1"):
            unseen_cases(torch_bundle, own, data, fold=1, checkpoint=others)


@pytest.mark.parametrize(("fold", "other"), [(0, "all"), ("all", 0), (0, 1)])
def test_figures_are_not_told_of_weights_that_held_out_something_else(tiny_bundle, fold, other):
    """As when another training into the same folder ends while the first is measured."""
    bundle = open_bundle(tiny_bundle)
    write_metadata(bundle, {**bundle.metadata, "training": {"fold": other}})
    before = open_bundle(tiny_bundle).metadata
    with pytest.raises(InputError, match=f"with fold {fold}, but .* are of one with fold {other}"):
        record_measurement(tiny_bundle, tiny_bundle.parent / "data", None, fold=fold)
    assert open_bundle(tiny_bundle).metadata == before


@pytest.mark.parametrize(
    ("command", "measures"),
    [
        ("bundle threshold", "gather_evidence"),
        ("bundle calibrate", "gather_evidence"),
        ("bundle quality", "learn_quality"),
        ("postprocess choose", "choose_cleaning"),
    ],
)
def test_a_bundle_that_cannot_be_written_is_refused_before_cases_are_segmented(
    tiny_bundle, monkeypatch, capfd, command, measures
):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    begun = []
    monkeypatch.setattr("volseg.atomic._make_a_file_in", refuse)
    monkeypatch.setattr(f"volseg.choosing.{measures}", lambda *_, **__: begun.append(command))
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), str(tiny_bundle), "--data", str(tiny_bundle.parent / "data")])
    assert "metadata.json: Permission denied" in " ".join(capfd.readouterr().err.split())
    assert not begun


def test_a_temperature_takes_away_what_was_usual_of_entropy(torch_bundle):
    quality = torch_bundle / "configs" / "quality.json"
    quality.write_text("{}")
    evidence = gather_evidence(torch_bundle, torch_bundle.parent / "data", fold=0)
    record_decisions(torch_bundle, temperature=choose_temperature(evidence))
    assert not quality.exists()


@pytest.mark.parametrize(("value", "stays"), [(0.5, True), (0.3, False)])
def test_another_threshold_takes_away_what_was_usual_of_labels(torch_bundle, value, stays):
    quality = torch_bundle / "configs" / "quality.json"
    quality.write_text("{}")
    choice = ThresholdChoice(value, "dice", before=0.5, after=0.6, cases=2, curve=())
    record_decisions(torch_bundle, threshold=choice)
    assert quality.exists() == stays
