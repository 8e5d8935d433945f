"""What a training frees stays with the process until it ends, and then goes back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from ignite.engine import Engine

from volseg.training import KeepMemory
from volseg.training.kept_memory import has_glibc

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# An engine frees 256 MiB in a step; prints what the process has in MiB then, how much of it Linux
# was asked to hold in huge pages (it may lack them), and what it has after the run, whatever the
# end of that is. Each run is in a process of its own; what all need is loaded once.
PROGRAM = """
import multiprocessing, sys
import numpy as np, psutil
from ignite.engine import Engine, Events
from volseg.training import KeepMemory

def mebibytes():
    return psutil.Process().memory_info().rss >> 20

def asked_for():
    found = resident = 0
    with open("/proc/self/smaps") as stream:
        for line in stream:
            if line.startswith("Rss:"):
                resident = int(line.split()[1])
            elif line.startswith("VmFlags:") and "hg" in line.split():
                found += resident
    return found >> 10

def run(device, end):
    def step(engine, batch):
        before = mebibytes()
        np.ones(1 << 25)
        print(mebibytes() - before, asked_for(), end=" ")
        engine.state.before = before
        if end == "error":
            raise KeyboardInterrupt
        if end == "terminated":
            engine.terminate(skip_completed=True)

    engine = Engine(step)
    KeepMemory(device).attach(engine)
    try:
        engine.run([0])
    except KeyboardInterrupt:
        assert end == "error"
    else:
        assert end != "error"
    print(mebibytes() - engine.state.before)

for words in sys.argv[1:]:
    process = multiprocessing.get_context("fork").Process(target=run, args=words.split())
    process.start()
    process.join()
    assert process.exitcode == 0, words
"""

RUNS = ("cpu completed", "cpu terminated", "cpu error", "cuda completed")


@pytest.fixture(scope="module")
def runs():
    """Growth of the process after the array is freed, its huge pages, and growth after the run."""
    if not has_glibc():
        pytest.skip("the C library is not glibc")
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *RUNS], capture_output=True, text=True, check=True
    )
    lines = [[int(value) for value in line.split()] for line in found.stdout.splitlines()]
    return dict(zip(RUNS, lines, strict=True))


@pytest.mark.parametrize("run", RUNS[:3])
def test_freed_memory_stays_while_training_and_goes_back_after_it(runs, run):
    grown, huge, after = runs[run]
    assert grown > 240
    assert after < 16
    if HUGE_PAGES.is_file():
        assert huge > 240


def test_an_accelerator_leaves_the_memory_of_the_process_alone(runs):
    grown, _, after = runs["cuda completed"]
    assert grown < 16
    assert after < 16


def test_a_training_does_without_glibc(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # another C library: no mallopt
    engine = Engine(lambda engine, batch: None)
    KeepMemory("cpu").attach(engine)
    assert engine.run([0]).iteration == 1
