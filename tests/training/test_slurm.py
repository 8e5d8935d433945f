"""The batch script for SLURM, on a real one of one machine."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from volseg.bundle import open_bundle

_PATIENCE = 240  # seconds


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(
    slurm, unconverted_bundle, tmp_path, repository, monkeypatch
):
    """By two processes; the signal of SLURM comes after the first epoch."""
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PROCESSES", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(repository), *sys.path[:1]]))
    out, log = tmp_path / "trained", tmp_path / "job.log"
    data = unconverted_bundle.parent / "data"
    words = [unconverted_bundle, "--data", data, "-o", out, "--epochs", 20]
    job = said(
        *("sbatch", "--parsable", "--exclusive", f"--output={log}"),
        *map(str, [repository / "scripts" / "train.sbatch", *words]),
    ).strip()
    checkpoint = out / "runs" / "fold0" / "checkpoint.pt"
    until = time.monotonic() + _PATIENCE

    def wait_for(what) -> None:
        while not what():
            assert time.monotonic() < until, log.read_text() if log.is_file() else "no log"
            time.sleep(0.2)

    def left() -> bool:
        return bool(said("squeue", "--noheader", f"--jobs={job}", "--format=%t").strip())

    wait_for(checkpoint.is_file)
    said("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: "is queued again" in log.read_text())
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    assert epoch < 20
    wait_for(lambda: not left())
    text = log.read_text()
    assert epochs_of(out) == list(range(1, 21)), text
    record = json.loads((out / "runs" / "fold0" / "run.json").read_text())
    assert (len(record["starts"]), record["processes"]) == (2, 2)  # twice begun, once anew
    assert open_bundle(out).weights.is_file()
    assert "Traceback" not in text


def test_a_job_that_would_begin_anew_each_time_is_refused(repository):
    script = str(repository / "scripts" / "train.sbatch")
    for words in (["--set", "resume=false"], ["--set=resume=no"]):
        command = ["bash", script, "liver", "-o", "out", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert "would begin anew each time" in ended.stderr


def test_the_processes_of_a_node_share_its_cores(repository, tmp_path):
    for name, says in (("scontrol", "node1"), ("srun", "$OMP_NUM_THREADS $SRUN_CPUS_PER_TASK $*")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{says}"\n')
        (tmp_path / name).chmod(0o755)
    job = {"JOB_ID": "7", "JOB_NODELIST": "node[1-2]", "NNODES": "2", "CPUS_PER_TASK": "8"}
    environment = {f"SLURM_{name}": value for name, value in job.items()}
    environment |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PROCESSES": "2"}
    command = ["bash", str(repository / "scripts" / "train.sbatch"), "liver"]
    for threads in ({}, {"OMP_NUM_THREADS": "3"}):
        ended = subprocess.run(
            command, env=environment | threads, capture_output=True, text=True, check=True
        )
        assert ended.stdout.startswith(f"{threads.get('OMP_NUM_THREADS', 4)} 8 --kill-on-bad-exit")
        assert "--nproc-per-node=2" in ended.stdout
        assert "--rdzv-endpoint=node1:20007" in ended.stdout


def epochs_of(out: Path) -> list[int]:
    with (out / "runs" / "fold0" / "history.csv").open(newline="") as table:
        return [int(row["epoch"]) for row in csv.DictReader(table)]
