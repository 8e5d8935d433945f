"""What a training frees stays with the process until it ends, and then goes back."""

from __future__ import annotations

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
# end of that is.
PROGRAM = """
import sys
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

def step(engine, batch):
    before = mebibytes()
    np.ones(1 << 25)
    print(mebibytes() - before, asked_for())
    engine.state.before = before
    if sys.argv[2] == "error":
        raise KeyboardInterrupt
    if sys.argv[2] == "terminated":
        engine.terminate(skip_completed=True)

engine = Engine(step)
KeepMemory(sys.argv[1]).attach(engine)
try:
    engine.run([0])
except KeyboardInterrupt:
    assert sys.argv[2] == "error"
else:
    assert sys.argv[2] != "error"
print(mebibytes() - engine.state.before)
"""


def run(device, end="completed"):
    """Growth of the process after the array is freed, its huge pages, and growth after the run."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, device, end], capture_output=True, text=True, check=True
    )
    return [int(value) for value in found.stdout.split()]


@pytest.mark.skipif(not has_glibc(), reason="the C library is not glibc")
@pytest.mark.parametrize("end", ["completed", "terminated", "error"])
def test_freed_memory_stays_while_training_and_goes_back_after_it(end):
    grown, huge, after = run("cpu", end)
    assert grown > 240
    assert after < 16
    if HUGE_PAGES.is_file():
        assert huge > 240


@pytest.mark.skipif(not has_glibc(), reason="the C library is not glibc")
def test_an_accelerator_leaves_the_memory_of_the_process_alone():
    grown, _, after = run("cuda")
    assert grown < 16
    assert after < 16


def test_it_registers_only_where_it_can_do_something(monkeypatch):
    monkeypatch.setattr("volseg.training.kept_memory.has_glibc", lambda: False)
    engine = Engine(lambda engine, batch: None)
    KeepMemory("cpu").attach(engine)
    engine.run([0])
    assert not any(engine._event_handlers.values())
