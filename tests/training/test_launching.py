"""Processes of one machine, started and ended together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.training.processes import in_processes
from volseg.cli.console import progress_bar
from volseg.cli.main import main
from volseg.errors import VolsegError
from volseg.networks import read_weights
from volseg.training import launching, train_bundle
from volseg.training.launching import run_in_processes

_PATIENCE = 240  # seconds


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return what makes a shell script stand for Python with volseg."""

    def stand_in(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return stand_in


def test_each_process_knows_its_place_and_the_words(program, tmp_path):
    program(f'echo "$LOCAL_RANK of $WORLD_SIZE, $OMP_NUM_THREADS: $@" > {tmp_path}/$RANK')
    assert run_in_processes(2, ["train", "a bundle"]) == 0
    threads = max(1, os.cpu_count() // 2)
    found = [(tmp_path / str(rank)).read_text().strip() for rank in (0, 1)]
    assert found == [f"{rank} of 2, {threads}: -P -m volseg train a bundle" for rank in (0, 1)]


def test_one_that_fails_ends_the_others_and_its_exit_code_is_given_back(program):
    program('[ "$RANK" = 1 ] && exit 2; exec sleep 60')
    before = signal.getsignal(signal.SIGTERM)
    assert run_in_processes(2, []) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_when_it_is_told_to_end_they_end_before_it(program, tmp_path):
    program(f"echo $$ > {tmp_path}/$RANK; exec sleep 60")
    files = [tmp_path / str(rank) for rank in (0, 1)]

    def interrupt() -> None:
        while not all(file.is_file() and file.read_text() for file in files):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(2, [])
    thread.join()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def test_one_that_is_killed_is_named(program):
    program('[ "$RANK" = 1 ] && kill -9 $$; exec sleep 60')
    with pytest.raises(VolsegError, match="process 1 of 2 was killed by SIGKILL"):
        run_in_processes(2, [])


def test_the_command_starts_itself_with_the_same_settings(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        launching, "run_in_processes", lambda count, words: started.append((count, words)) or 3
    )
    words = ["train", "b", "--data", tmp_path, "-o", tmp_path / "out", "--processes", 2, "--json"]
    words += ["--fold", 1, "--learning-rate", 1e-5, "--set", "patch=[16, 16, 8]", "--device", "cpu"]
    with pytest.raises(SystemExit, match="3"):
        main([str(word) for word in words])
    ((count, again),) = started
    assert count == 2

    trained, shown = [], []
    monkeypatch.setattr(
        "volseg.cli.train.progress_bar",
        lambda **options: shown.append(options) or progress_bar(**options),
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")  # it does nothing but train
    monkeypatch.setattr(
        "volseg.training.train_bundle", lambda *given, **options: trained.append((given, options))
    )
    with pytest.raises(SystemExit, match="0"):
        main(again)
    ((given, options),) = trained
    assert given == ("b", Path(tmp_path), tmp_path / "out")
    assert (options["fold"], options["device"]) == (1, "cpu")
    assert json.dumps(options["settings"], sort_keys=True) == json.dumps(
        {"learning_rate": 1e-5, "patch": [16, 16, 8]}
    )
    assert shown == [{"shown": False}]  # the first draws it


def test_its_processes_show_details_where_the_command_does(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        launching, "run_in_processes", lambda count, words: started.append(words) or 0
    )
    words = ["train", "b", "--data", str(tmp_path), "-o", str(tmp_path / "out"), "--processes", "2"]
    for given in (["--debug", *words], words):
        with pytest.raises(SystemExit, match="0"):
            main(given)
    assert ["--debug" in again for again in started] == [True, False]


def test_a_cross_validation_by_several_processes_is_refused(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["crossval", "b", "--data", str(tmp_path), "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "is run by one process" in " ".join(capfd.readouterr().err.split())


def train(bundle, data, out):
    train_bundle(bundle, data, out, epochs=1)


@contextlib.contextmanager
def torchrun(*words, folder):
    """Start processes as torchrun does; after the block they must come to a good end."""
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, words)]
    agent = subprocess.Popen(command, cwd=folder)
    try:
        yield
        assert agent.wait(_PATIENCE) == 0
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.slow  # four processes that load all anew
def test_torchrun_trains_as_one_process_does(tiny_bundle, tmp_path, repository, monkeypatch):
    """On two machines, which are one here, and through MONAI: the commands of the README."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    data, alone, together = tiny_bundle.parent / "data", tmp_path / "alone", tmp_path / "together"
    in_processes(1, train, tiny_bundle, data, alone)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machine = ("--nnodes", 2, "--nproc-per-node", 1, "--local-addr", "127.0.0.1")
    machine += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}")
    ours = ("-m", "volseg", "train", tiny_bundle, "--data", data, "-o", together, "--epochs", 1)
    with torchrun(*machine, *ours, folder=tmp_path), torchrun(*machine, *ours, folder=tmp_path):
        pass
    record = json.loads((together / "runs" / "fold0" / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 2)

    monai = ("-m", "monai.bundle", "run", "--config_file", "configs/train.yaml", "--epochs", 1)
    monai += ("--dataset_dir", data, "--output_dir", tmp_path / "monai")
    with torchrun("--standalone", "--nproc-per-node", 2, *monai, folder=tiny_bundle):
        pass
    record = json.loads((tmp_path / "monai" / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 2)
    expected = read_weights(alone / "models" / "model.pt")
    for path in (together / "models" / "model.pt", tmp_path / "monai" / "model.pt"):
        found = read_weights(path)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)
