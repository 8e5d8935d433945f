"""A training that is stopped stays one run of its tracker."""

from __future__ import annotations

import importlib.util
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

# In a process of its own, for MLflow may warn when it is imported.
PROGRAM = """
import os, signal, sys
from volseg.training import train_bundle

bundle, data, out, end = sys.argv[1:]

def stop(state):
    if end == "killed" and state.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

settings = {"track_with": "mlflow", "val_interval": 1}
train_bundle(bundle, data, out, epochs=3, settings=settings, progress=stop)
"""


@pytest.mark.slow  # two processes
@pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="needs the extra mlflow, which MONAI imports at every start",
)
def test_mlflow_has_one_run_of_a_training_that_was_killed(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # it goes before the settings
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    for end, code in (("killed", -signal.SIGKILL), ("completed", 0)):
        command = [sys.executable, "-c", PROGRAM, str(tiny_bundle), str(data), str(out), end]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
    with closing(sqlite3.connect(out / "runs" / "fold0" / "mlruns.db")) as tracked:
        ((name, status),) = tracked.execute("SELECT name, status FROM runs").fetchall()
        steps: dict[str, set[int]] = {"loss": set(), "mean_dice": set()}
        for key, step in tracked.execute("SELECT key, step FROM metrics"):
            if key in steps:
                steps[key].add(step)
    assert name.endswith("runs/fold0")
    assert status == "FINISHED"
    assert steps == {"loss": {1, 2, 3, 4, 5, 6}, "mean_dice": {1, 2, 3}}
