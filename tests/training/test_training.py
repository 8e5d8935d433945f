"""Training a bundle gives a bundle; stopping and going on gives the same as not stopping."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from volseg import Segmenter
from volseg.bundle import write_metadata
from volseg.choosing import measure_bundle, record_measurement
from volseg.choosing.held_out import held_out_cases
from volseg.cli.main import main
from volseg.errors import BundleError, InputError, OutputError
from volseg.networks import read_weights
from volseg.training import TrainingState, train_bundle


def test_training_lowers_the_loss_and_gives_a_bundle(unconverted_bundle, tmp_path):
    states: list[TrainingState] = []
    data = unconverted_bundle.parent / "data"
    trained = train_bundle(
        unconverted_bundle, data, tmp_path / "trained", fold=1, epochs=12, progress=states.append
    )
    assert trained.folder == (tmp_path / "trained").resolve()
    # Four training cases in batches of two, and a validation every second epoch.
    steps = [(state.epoch, state.step) for state in states if not state.epoch_has_ended]
    assert steps[:4] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert states[-1].epoch == states[-1].epochs == 12
    assert states[-1].key_metric is not None
    epochs = [state for state in states if state.epoch_has_ended]
    assert [state.epoch for state in epochs] == list(range(1, 13))
    assert epochs[-1].loss < 0.9 * epochs[0].loss
    assert [bool(state.metrics) for state in epochs] == [False, True] * 6
    assert set(epochs[-1].metrics) == {"mean_dice", "dice_anterior", "dice_posterior"}
    assert (states[0].part_done, states[-1].part_done) == (1 / 24, 1.0)
    before = read_weights(unconverted_bundle / "models" / "model.pt")
    after = read_weights(trained.weights)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(InputError, match="was trained on the cases of fold 0"):
        held_out_cases(trained, data, fold=0)
    evaluation = measure_bundle(trained.folder, data, fold=1)
    assert {row.case for row in evaluation.rows} == {"ball1", "ball4"}
    measured = record_measurement(trained.folder, data, evaluation, fold=1)
    training = measured.metadata["training"]
    assert (training["epochs"], training["training_cases"]) == (12, 4)
    assert training["seconds"] > 0
    assert set(measured.metadata["eval_metrics"]) >= {"dice_anterior", "dice_posterior"}
    assert Segmenter(trained.folder).segment(data / "images" / "ball1.nii.gz").shape[0] == 1


def test_what_is_told_of_weights_goes_with_them(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "trained"
    trained = train_bundle(tiny_bundle, data, out, fold=1, epochs=1)
    table = out / "configs" / "tuning.json"
    table.write_text("{}")
    told = {**trained.metadata, "eval_metrics": {"dice_anterior": 0.5}}
    # As an earlier version left it, which did not write down what was held out.
    write_metadata(trained, {name: one for name, one in told.items() if name != "training"})
    again = train_bundle(tiny_bundle, data, out, fold=1, epochs=1)  # there is nothing to train
    assert told["training"] == {"fold": 1}
    assert again.metadata == told
    assert table.is_file()
    other = train_bundle(tiny_bundle, data, out, fold=2, epochs=1)
    assert other.metadata["training"] == {"fold": 2}
    assert "eval_metrics" not in other.metadata
    assert not table.exists()


def test_going_on_after_a_stop_continues_the_epochs(tiny_bundle, tmp_path):
    data = tiny_bundle.parent / "data"

    class StopError(Exception):
        pass

    def stop_in_the_third(state: TrainingState) -> None:
        if state.epoch == 3:
            raise StopError

    with pytest.raises(StopError):
        train_bundle(tiny_bundle, data, tmp_path / "t", epochs=4, progress=stop_in_the_third)
    checkpoint = tmp_path / "t" / "runs" / "fold0" / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 2
    states: list[TrainingState] = []
    train_bundle(tiny_bundle, data, tmp_path / "t", epochs=4, progress=states.append)
    assert states[0].epoch == 3
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 4
    # The run that was stopped gives the weights of one that was not, bit for bit.
    train_bundle(tiny_bundle, data, tmp_path / "whole", epochs=4)
    weights = [
        torch.load(tmp_path / run / "models" / "model.pt", weights_only=True)
        for run in ("t", "whole")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(BundleError, match="epochs was 4 and is 5"):
        train_bundle(tiny_bundle, data, tmp_path / "t", epochs=5)
    # Asked once more, there is nothing left to train, and the record stays that of who trained.
    states.clear()
    record = checkpoint.with_name("run.json")
    told = json.loads(record.read_text())
    assert len(told["starts"]) == 2
    train_bundle(tiny_bundle, data, tmp_path / "t", epochs=4, progress=states.append)
    assert states == []
    assert json.loads(record.read_text()) == told
    # So it does where that was killed before it could say how it ended.
    known = {name: told[name] for name in told if name not in ("end", "peak_memory_bytes")}
    record.write_text(json.dumps({**known, "status": "running", "ended_by": None}))
    train_bundle(tiny_bundle, data, tmp_path / "t", epochs=4)
    found = json.loads(record.read_text())
    assert 0 < found.pop("seconds") <= known.pop("seconds")  # until the last checkpoint
    assert found == known
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(BundleError, match="cannot go on"):
        train_bundle(tiny_bundle, data, tmp_path / "t", epochs=5)


def test_unusable_data_and_outputs_are_named(tiny_bundle, tmp_path):
    data = tiny_bundle.parent / "data"
    with pytest.raises(InputError, match="no data folder"):
        train_bundle(tiny_bundle, tmp_path / "absent", tmp_path / "t")
    with pytest.raises(InputError, match="fold 9"):
        train_bundle(tiny_bundle, data, tmp_path / "t", fold=9)
    with pytest.raises(InputError, match="is the bundle itself"):
        train_bundle(tiny_bundle, data, tiny_bundle)
    with pytest.raises(OutputError, match="not a bundle"):
        train_bundle(tiny_bundle, data, data)
    with pytest.raises(InputError, match="run #2 has a '#'"):
        train_bundle(tiny_bundle, data, tmp_path / "run #2")
    assert not (tmp_path / "run #2").exists()
    for device, said in (("cuda:99", "is not there"), ("gpu", "unknown device .gpu.")):
        with pytest.raises(InputError, match=said):
            train_bundle(tiny_bundle, data, tmp_path / "v", device=device)
    assert not (tmp_path / "v").exists()
    (data / "labels" / "ball2.nii.gz").unlink()
    with pytest.raises(InputError, match="ball2"):
        train_bundle(tiny_bundle, data, tmp_path / "u")


def test_what_was_validated_stays_above_the_bar_of_a_terminal(tmp_path, monkeypatch):
    step = TrainingState(1, 2, 1, 2, 0.5, None, 0.25, None, 1.0, 0.0)
    states = [
        step,
        replace(step, epoch_has_ended=True),  # without a validation
        replace(step, epoch=2, epoch_has_ended=True, metrics={"dice_anterior": 0.9}),
        replace(step, epoch=2, loss=0.25),
    ]

    def trained(*_, progress, **__):
        for state in states:
            progress(state)
        raise InputError("that is all")

    text = StringIO()
    terminal = Console(file=text, force_terminal=True, color_system=None, width=200)
    for module in ("console", "train"):
        monkeypatch.setattr(f"volseg.cli.{module}.errors", terminal)
    monkeypatch.setattr("volseg.training.train_bundle", trained)
    with pytest.raises(SystemExit, match="2"):
        main(["train", "b", "--data", str(tmp_path), "-o", str(tmp_path / "t")])
    lines = text.getvalue().splitlines()
    kept = [state for state in states if any(line.endswith(state.describe()) for line in lines)]
    assert kept == [states[2]]
