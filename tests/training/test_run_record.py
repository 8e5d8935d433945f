"""What a run tells of itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from ignite.engine import Engine

import volseg
from volseg.data import read_datalist, write_datalist
from volseg.training import RecordRun, TrainingClock, TrainingHistory, read_run_record
from volseg.training.progress import duration
from volseg.training.run_record import git_state


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_state_in_git_is_told_and_runs_nothing_of_the_folder(tmp_path):
    bundle = tmp_path / "repository" / "bundle"
    bundle.mkdir(parents=True)
    assert git_state(bundle) is None
    git(tmp_path / "repository", "init", "-q")
    assert git_state(bundle) is None  # nothing is committed
    (bundle / "a.txt").write_text("a")
    git(bundle, "add", ".")
    git(bundle, "commit", "-q", "-m", "first")
    commit = git(bundle, "rev-parse", "HEAD")
    assert git_state(bundle) == {"commit": commit, "changed": False}
    (bundle.parent / "beside.txt").write_text("not of the bundle")
    assert git_state(bundle) == {"commit": commit, "changed": False}
    (bundle / "a.txt").write_text("b")
    told = tmp_path / "ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {told}\n")
    hook.chmod(0o755)
    git(bundle, "config", "core.fsmonitor", str(hook))
    assert git_state(bundle) == {"commit": commit, "changed": True}
    assert not told.exists()
    environment = bundle.parent / "environment"
    environment.mkdir()
    (environment / "package.py").touch()
    assert git_state(environment) is None  # no commit says what is in it


def test_a_record_that_is_not_there_or_damaged_says_nothing(tmp_path):
    assert read_run_record(tmp_path) == {}
    (tmp_path / "run.json").write_text("{")
    assert read_run_record(tmp_path) == {}


def recorded(bundle, folder, **options):
    """What a run with fold 0 held out tells of itself."""
    trainer = Engine(lambda engine, batch: None)
    trainer.state.device = "cpu"
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    clock = TrainingClock()
    history = TrainingHistory(folder, clock, optimizer, Engine(lambda engine, batch: None))
    data = bundle.parent / "data"
    RecordRun(bundle, data, {"fold": 0}, history, clock, **options).attach(trainer)
    trainer.run([0], max_epochs=1)
    return read_run_record(folder)


def test_the_cases_that_are_told_of_are_those_of_the_list_that_is_trained_on(tiny_bundle, tmp_path):
    own, other = tiny_bundle / "configs" / "datalist.json", tmp_path / "other.json"
    write_datalist(read_datalist(own)[:5], other, about={})
    whole = recorded(tiny_bundle, tmp_path / "whole")["data"]
    assert (whole["training_cases"], whole["held_out_cases"]) == (4, 2)
    own.unlink()
    part = recorded(tiny_bundle, tmp_path / "part", datalist=str(other))["data"]
    assert (part["training_cases"], part["held_out_cases"]) == (3, 2)
    assert part["sha256"] != whole["sha256"]


def test_the_state_of_the_code_is_told(tiny_bundle, tmp_path):
    """The bundle lies outside of any repository."""
    record = recorded(tiny_bundle, tmp_path / "run")
    assert record["bundle"]["git"] is None
    assert record["code"] == git_state(Path(volseg.__file__).parent)


def test_times_are_told_as_they_are_spoken():
    assert [duration(seconds) for seconds in (3.4, 99, 130, 5940, 12_000)] == [
        *("3 s", "99 s", "2 min", "99 min", "3 h 20 min")
    ]
