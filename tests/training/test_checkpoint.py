"""A training that is stopped, in any way and at any moment, goes on as if it had not been."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import shutil
import signal

import filelock
import pytest
import torch
from ignite.engine import Engine

from tests.training.processes import in_processes
from volseg.cli.main import main
from volseg.data import read_datalist, write_datalist
from volseg.errors import BundleError, InputError, OutputError
from volseg.networks import read_weights
from volseg.training import (
    CheckpointEveryEpoch,
    TrainingClock,
    TrainingHistory,
    TrainingState,
    checkpoint,
    read_run_record,
    train_bundle,
)


def train(bundle, data, out, progress=None):
    train_bundle(bundle, data, out, epochs=4, settings={"val_interval": 1}, progress=progress)


def train_until_killed(where, bundle, data, out):
    """Be killed by the system: in the second epoch, once a file of weights is written, or at half
    of the third checkpoint.
    """
    write, write_weights = torch.save, checkpoint.save_weights

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_in_the_second_epoch(state: TrainingState) -> None:
        if (state.epoch, state.step) == (2, 1):
            kill()

    def write_half(value, target):
        if value.get("epoch") == 3:
            target.write(b"half of a checkpoint")
            target.flush()
            kill()
        write(value, target)

    def write_weights_and_kill(network, path):
        write_weights(network, path)
        if path.name == where:
            kill()

    checkpoint.save_weights = write_weights_and_kill
    if where == "writing":
        torch.save = write_half
    train(bundle, data, out, kill_in_the_second_epoch if where == "epoch" else None)


def read(path):
    return torch.load(path, weights_only=True)


def assert_same(one, other, where=""):
    """Whether two checkpoints are equal bit for bit, but for what is measured with a clock."""
    if where.endswith(("/seconds", "/patches_per_second", "/waiting", "/between_epochs")):
        return
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for place, (ours, theirs) in enumerate(zip(one, other, strict=True)):
            assert_same(ours, theirs, f"{where}/{place}")
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other), where
    else:
        assert one == other, where


@pytest.mark.slow  # four processes that are killed
def test_a_killed_run_gives_the_weights_of_one_that_was_not_killed(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "killed"
    run = out / "runs" / "fold0"
    for where, epoch in (("best.pt", 0), ("epoch", 1), ("model.pt", 1), ("writing", 2)):
        words = (where, tiny_bundle, data, out)
        assert in_processes(1, train_until_killed, *words, all_end=False) == []
        assert (run / "checkpoint.pt").is_file() == bool(epoch)
        if epoch:
            assert read(run / "checkpoint.pt")["epoch"] == epoch
    assert [path.read_bytes() for path in run.glob(".volseg-*")] == [b"half of a checkpoint"]
    whole = tmp_path / "whole"
    for folder in (out, whole):
        in_processes(1, train, tiny_bundle, data, folder)
    for name in ("models/model.pt", "runs/fold0/checkpoint.pt", "runs/fold0/best.pt"):
        assert_same(read(out / name), read(whole / name))
    assert not list(run.glob(".volseg-*"))


@contextlib.contextmanager
def files_of_at_most(size):
    """A disk that is full once a file has so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    run = out / "runs" / "fold0"
    with contextlib.ExitStack() as stack:

        def fill(state: TrainingState) -> None:
            if (state.epoch, state.step) == (2, 1):
                assert (run / "checkpoint.pt").stat().st_size > 50_000
                stack.enter_context(files_of_at_most(50_000))

        with pytest.raises(OutputError, match=r"cannot write .*\.pt: File too large; free space"):
            train_bundle(tiny_bundle, data, out, epochs=2, progress=fill)
    assert read(run / "checkpoint.pt")["epoch"] == 1
    train_bundle(tiny_bundle, data, out, epochs=2)
    assert read(run / "checkpoint.pt")["finished"]


def test_one_process_trains_in_a_folder_at_a_time(tiny_bundle, tmp_path):
    run = tmp_path / "t" / "runs" / "fold0"
    run.mkdir(parents=True)
    data = tiny_bundle.parent / "data"
    shutil.copytree(tiny_bundle / "configs", tmp_path / "t" / "configs")
    with (
        filelock.FileLock(run / ".training.lock"),  # as another process takes it
        pytest.raises(OutputError, match="another process is training into"),
    ):
        train_bundle(tiny_bundle, data, tmp_path / "t", epochs=1)


def test_weights_that_are_no_numbers_leave_the_checkpoint_before(tmp_path):
    network = torch.nn.Linear(2, 1)

    def step(engine, batch):
        torch.nn.init.constant_(network.bias, 1.0 if engine.state.epoch < 2 else math.inf)

    optimizer = torch.optim.SGD(network.parameters())
    history = TrainingHistory(tmp_path, TrainingClock(), optimizer, Engine(step))
    trainer = Engine(step)
    CheckpointEveryEpoch(tmp_path, {}, network, history=history).attach(trainer)
    with pytest.raises(
        InputError, match=r"weights of epoch 2 are not finite, bias first; .*clip_norm"
    ):
        trainer.run([0], max_epochs=3)
    assert read(tmp_path / "checkpoint.pt")["epoch"] == 1
    assert read_weights(tmp_path / "model.pt")["bias"] == 1


class StopError(Exception):
    """As a signal, for example."""


def stop_in_epoch(number):
    def stop(state: TrainingState) -> None:
        if state.epoch == number:
            raise StopError

    return stop


def test_what_helps_against_values_that_are_no_numbers_may_be_another(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    run = out / "runs" / "fold0"
    options = {"fold": 0, "epochs": 4}
    first = {"schedule": "constant", "val_interval": 4}
    with pytest.raises(StopError):
        train_bundle(tiny_bundle, data, out, **options, settings=first, progress=stop_in_epoch(3))
    other = {**first, "learning_rate": 5e-4, "seed": 1}
    with pytest.raises(BundleError, match=r"\(seed was 0 and is 1\)"):
        train_bundle(tiny_bundle, data, out, **options, settings=other)
    now = {**first, "learning_rate": 5e-4, "clip_norm": 12.0, "val_interval": 1, "patience": 9}
    train_bundle(tiny_bundle, data, out, **options, settings=now)
    rows = read(run / "checkpoint.pt")["objects"]["history"]["rows"]
    assert [row["learning_rate"] for row in rows] == [0.002, 0.002, 5e-4, 5e-4]
    assert ["mean_dice" in row for row in rows] == [False, False, True, True]
    assert read_run_record(run)["changes"] == [
        {"epoch": 2, "name": "learning_rate", "before": 0.002, "after": 5e-4},
        {"epoch": 2, "name": "clip_norm", "before": None, "after": 12.0},
        {"epoch": 2, "name": "patience", "before": None, "after": 9},
        {"epoch": 2, "name": "val_interval", "before": 4, "after": 1},
    ]


def test_other_cases_are_refused_and_other_contents_are_told(tiny_bundle, tmp_path, caplog):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    with pytest.raises(StopError):
        train_bundle(tiny_bundle, data, out, progress=stop_in_epoch(2))
    datalist = out / "configs" / "datalist.json"
    cases = read_datalist(datalist)
    kept = read(out / "runs" / "fold0" / "checkpoint.pt")
    assert (kept["cases"], kept["epoch_length"]) == (["ball1", "ball2", "ball4", "ball5"], 2)
    write_datalist([*cases[:1], *reversed(cases[1:])], datalist, about={"name": "balls"})
    with pytest.raises(BundleError, match=r"4 train.*they are 4.*number 1 was ball1 and is ball5"):
        train_bundle(tiny_bundle, data, out)
    write_datalist(cases[:-1], datalist, about={"name": "balls"})
    with pytest.raises(BundleError, match=r"they are 3, 2 steps \(number 4 was ball5 and is none"):
        train_bundle(tiny_bundle, data, out)
    write_datalist(cases, datalist, about={"name": "balls"})
    before = read_run_record(out / "runs" / "fold0")["data"]["sha256"]
    shutil.copyfile(data / "images" / "ball1.nii.gz", data / "images" / "ball2.nii.gz")
    train_bundle(tiny_bundle, data, out)
    assert f"the files of the cases in {data} have changed since epoch 1" in caplog.text
    record = read_run_record(out / "runs" / "fold0")
    after = record["data"]["sha256"]
    assert before != after
    assert record["changes"] == [{"epoch": 1, "name": "data", "before": before, "after": after}]


def test_other_settings_are_said_by_name(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    train_bundle(tiny_bundle, data, out, epochs=1)
    with pytest.raises(BundleError, match=r"learning_rate was 0.002 and is 0.1; seed was 0 and is"):
        train_bundle(tiny_bundle, data, out, epochs=1, settings={"learning_rate": 0.1, "seed": 1})
    anew = {"learning_rate": 0.1, "seed": 1, "resume": False}
    train_bundle(tiny_bundle, data, out, epochs=1, settings=anew)
    run = out / "runs" / "fold0"
    kept = read(run / CheckpointEveryEpoch.CHECKPOINT)
    assert (kept["settings"]["seed"], kept["settings"]["learning_rate"]) == (1, 0.1)
    assert read(run / CheckpointEveryEpoch.SET_ASIDE)["settings"]["seed"] == 0


def test_a_run_begun_anew_and_stopped_early_is_not_taken_for_the_one_before(tiny_bundle, tmp_path):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    train_bundle(tiny_bundle, data, out)
    anew = {"resume": False}
    with pytest.raises(StopError):
        train_bundle(tiny_bundle, data, out, settings=anew, progress=stop_in_epoch(1))
    states: list[TrainingState] = []
    train_bundle(tiny_bundle, data, out, progress=states.append)
    assert states[0].epoch == 1
    assert read(out / "runs" / "fold0" / "checkpoint_before.pt")["finished"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "; the same command goes on from there"),
        (["--set", "resume=no"], "; the same command without --set resume=false goes on from"),
    ],
)
def test_how_to_go_on_is_said_where_a_training_was_stopped(
    tiny_bundle, tmp_path, monkeypatch, capfd, words, said
):
    run = tmp_path / "t" / "runs" / "fold0"

    def stopped(*_, progress, **__):
        run.mkdir(parents=True)
        (run / "checkpoint.pt").touch()
        progress(TrainingState(1, 2, 1, 2, 0.5, None, 0.25, None, 1.0, 0.0))
        raise StopError

    monkeypatch.setattr("volseg.training.train_bundle", stopped)
    with pytest.raises(SystemExit, match="1"):
        main(
            ["train", str(tiny_bundle), "--data", str(tmp_path), "-o", str(tmp_path / "t"), *words]
        )
    assert said in capfd.readouterr().err


def test_a_copy_of_another_bundle_is_not_said_to_be_gone_on_with(tiny_bundle, tmp_path, capfd):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    run = out / "runs" / "fold0"
    run.mkdir(parents=True)
    (run / "checkpoint.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tiny_bundle), "--data", str(data), "-o", str(out)])
    said = capfd.readouterr().err
    assert "is not a bundle" in said
    assert "goes on from there" not in said
