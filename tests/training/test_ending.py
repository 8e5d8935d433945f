"""When a training is validated and ends, and which weights it leaves."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image

from volseg.choosing import measure_bundle, record_measurement
from volseg.cli.main import main
from volseg.errors import InputError
from volseg.networks import read_weights
from volseg.training import (
    SeedEveryEpoch,
    StopWithoutProgress,
    TrainingClock,
    TrainingHistory,
    ValidateNowAndAtTheEnd,
    train_bundle,
)


def trained_with(values, tmp_path, *, patience, epochs=10):
    """Epochs that were trained and the history, where validations have the given values."""
    validator = Engine(lambda engine, batch: None)
    validator.state.key_metric_name = "dice"
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    clock = TrainingClock()
    history = TrainingHistory(tmp_path, clock, optimizer, validator)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        validator.state.metrics["dice"] = values[engine.state.epoch - 1]
        validator.run([0])

    for handler in (clock, history, StopWithoutProgress(history, patience)):
        handler.attach(trainer)
    trainer.run([[0, 0]], max_epochs=epochs)
    return trainer.state.epoch, history


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([0.5, 0.6, 0.6, 0.59, 0.7], 2, 4, (2, 0.6)),
        ([0.5, 0.6, 0.6, 0.59, 0.7], 3, 5, (5, 0.7)),
        ([0.5, 0.4, 0.3, 0.2, 0.1], None, 5, (1, 0.5)),
        ([float("nan"), 0.1, 0.05, 0.0, 0.2], 2, 4, (2, 0.1)),
    ],
)
def test_patience_ends_a_training_that_no_longer_gets_better(
    tmp_path, values, patience, epochs, best
):
    trained, history = trained_with(values, tmp_path, patience=patience, epochs=5)
    assert (trained, history.best) == (epochs, best)
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert [float(row["loss"]) for row in rows] == [1.0] * epochs
    assert rows[1]["dice"] == str(values[1])


def test_the_last_epoch_is_validated_whatever_the_interval(monkeypatch):
    found = []

    def note(self, engine):
        found.append(engine.state.epoch)

    monkeypatch.setattr(ValidateNowAndAtTheEnd, "__call__", note)
    trainer = Engine(lambda engine, batch: None)
    ValidateNowAndAtTheEnd(interval=2).attach(trainer)
    trainer.run([0], max_epochs=5)
    assert found == [2, 4, 5]


def test_random_numbers_of_an_epoch_do_not_depend_on_what_was_drawn_before():
    def numbers(drawn_before):
        found = []

        def step(engine, batch):
            found.append(torch.rand(2))

        trainer = Engine(step)
        SeedEveryEpoch(seed=3).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: torch.rand(drawn_before))
        trainer.run([0, 0], max_epochs=2)
        return torch.stack(found)

    torch.manual_seed(7)
    assert torch.equal(numbers(0), numbers(5))
    assert len(numbers(0).unique()) == 8


def test_the_best_weights_are_kept_and_the_run_is_told_of(
    unconverted_bundle, tmp_path, with_curves
):
    data = unconverted_bundle.parent / "data"
    settings = {
        "final_weights": "best",
        "val_interval": 1,
        "patience": 1,
        "learning_rate": 10.0,  # too high to get better for long
        "schedule": "constant",
        "track_with": "tensorboard",
        "seconds": 600,
        "cases": 3,
    }
    trained = train_bundle(
        unconverted_bundle, data, tmp_path / "t", epochs=30, settings=settings, fold=1
    )
    run = trained.folder / "runs" / "fold1"
    record = json.loads((run / "run.json").read_text())
    assert record["ended_by"] == "patience"
    assert record["epochs"] < 30
    assert record["best"]["epoch"] < record["epochs"]
    assert record["settings"]["learning_rate"] == 10.0
    assert record["data"]["training_cases"] == 3  # of 4
    assert record["peak_memory_bytes"] > 1e6
    weights = read_weights(trained.weights)
    best = read_weights(run / "best.pt")
    last = torch.load(run / "checkpoint.pt", weights_only=True)["objects"]["averaged"]["network"]
    assert all(torch.equal(weights[name], best[name]) for name in weights)
    assert any(not torch.equal(weights[name], last[name]) for name in weights)
    with Image.open(trained.folder / "docs" / "training.png") as curves:
        assert curves.size == (840, 720)
    assert len(list((run / "tensorboard").glob("events.*"))) == 2  # of training and validation
    evaluation = measure_bundle(trained.folder, data, fold=1)
    measured = record_measurement(trained.folder, data, evaluation, fold=1)
    assert measured.metadata["training"]["training_cases"] == 3


def test_every_case_is_trained_on_where_no_fold_is_held_out(tiny_bundle, tmp_path, capfd):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    words = ["train", tiny_bundle, "--data", data, "-o", out, "--fold", "all", "--epochs", 1]
    with pytest.raises(SystemExit, match="0"):
        main([*map(str, words), "--json"])
    assert json.loads(capfd.readouterr().out) == {"bundle": str(out.resolve()), "metrics": {}}
    record = json.loads((out / "runs" / "foldall" / "run.json").read_text())
    assert (record["data"]["training_cases"], record["data"]["held_out_cases"]) == (6, 0)
    assert record["steps"] == 3
    with pytest.raises(InputError, match="patience is 3, which needs held-out cases"):
        train_bundle(tiny_bundle, data, tmp_path / "u", fold="all", settings={"patience": 3})
