"""Whoever starts the workers, and whatever happens to them: the same bits, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from volseg.cli.cohort_engine import engine_choice
from volseg.cohort import (
    CohortFolder,
    DaskEngine,
    Engine,
    LocalEngine,
    SlurmEngine,
    WorkerOptions,
    cohort_rows,
    cohort_status,
    dask_engine,
    run_cohort,
    work,
)
from volseg.cohort.engine import do_all
from volseg.cohort.queue import TicketQueue
from volseg.cohort.slurm_engine import slurm_parameters
from volseg.errors import InputError, VolsegError

from .conftest import half_written, label_maps

_SECONDS = 120
Progress = Callable[[int, int], None]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "volseg", "cohort", *map(str, words)]


@contextlib.contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stopped_in_the_middle(cohort: CohortFolder) -> tuple[int, str]:
    """Wait until a worker is at a case, and stop it there; its process and the case."""
    queue = TicketQueue(cohort)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        for worker, tickets in queue.claimed().items():
            file = queue.presence.folder / f"{worker}.json"
            if not tickets or not file.exists():
                continue
            process = json.loads(file.read_text())["process"]
            os.kill(process, signal.SIGSTOP)
            time.sleep(0.05)
            held = queue.claimed()[worker]
            if held:
                return process, next(iter(held)).case
            os.kill(process, signal.SIGCONT)
        time.sleep(0.002)
    raise AssertionError("no worker took a case")


@pytest.fixture
def manifest(tmp_path: Path, images: list[Path]) -> Path:
    rows = [f"{path.name.split('.')[0]},{path}" for path in images]
    (tmp_path / "m.csv").write_text("\n".join(["case,image", *rows, ""]))
    return tmp_path / "m.csv"


def killing_one(cohort: CohortFolder, engine: Engine, killed: list[str]) -> Progress:
    """Kill a worker with signal 9 in the middle of a case, once, and note the case."""

    def kill_once(done: int, total: int) -> None:
        if not killed and engine.running():
            process, case = stopped_in_the_middle(cohort)
            os.kill(process, signal.SIGKILL)
            killed.append(case)

    return kill_once


def assert_all_done(cohort: CohortFolder, expected: dict[str, bytes], killed: list[str]) -> None:
    assert label_maps(cohort) == expected
    deaths = {row["case"]: row["workers_died"] for row in cohort_rows(cohort)}
    assert [case for case, died in deaths.items() if died] == killed
    assert set(deaths.values()) == {0, 1}
    assert cohort_status(cohort).workers == 0


def test_two_runs_at_once_share_the_work_and_a_killed_worker_loses_only_its_attempt(
    cohort, expected, tmp_path, monkeypatch
):
    """Each run has a worker of its own; the two may be at the last cases together.

    They are started from a folder of data, and run nothing that lies there.
    """
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "random.py").write_text("raise SystemExit('the file of the study ran')\n")
    monkeypatch.chdir(tmp_path / "study")
    one, two = (LocalEngine(cohort.path, WorkerOptions(run=name)) for name in ("one", "two"))
    killed: list[str] = []
    with ThreadPoolExecutor(2) as runs:
        seen = [
            runs.submit(run_cohort, cohort, one, 1, killing_one(cohort, one, killed)),
            runs.submit(run_cohort, cohort, two, 1, lambda *_: None),
        ]
        for run in seen:
            run.result()
    assert_all_done(cohort, expected, killed)


@pytest.mark.slow
def test_ctrl_c_leaves_all_as_it_should_be(tmp_path, manifest, tiny_bundle, expected):
    out = tmp_path / "out"
    words = ("run", manifest, "-o", out, "-b", tiny_bundle)
    with started(*words) as process:
        while not (out / "cohort.json").exists():
            time.sleep(0.05)
        cohort = CohortFolder.open(out)
        worker, _ = stopped_in_the_middle(cohort)
        process.send_signal(signal.SIGINT)
        os.kill(worker, signal.SIGCONT)
        _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 130, errors
    assert "of 6 cases are done; the same command goes on from here." in errors
    found = cohort_status(cohort)
    assert (found.running, found.workers, found.failed) == (0, 0, 0)
    assert found.waiting + found.done == 6
    assert not (out / "table.csv").exists()
    assert half_written(cohort) == []
    # The same command; it is killed, its worker notices and leaves, one started by hand goes on.
    with started(*words) as process:
        stopped, _ = stopped_in_the_middle(cohort)
        process.kill()
        process.wait()
        os.kill(stopped, signal.SIGCONT)
        presence, until = TicketQueue(cohort).presence, time.monotonic() + _SECONDS
        while presence.alive():
            assert time.monotonic() < until
            time.sleep(0.05)
    assert work(out) > 0
    assert label_maps(cohort) == expected
    assert half_written(cohort) == []
    assert cohort_status(cohort).failed == 0


class NobodyWorks:
    """An engine whose workers end at once, without a word."""

    interval = 0.0

    def __init__(self) -> None:
        self.starts = 0

    def start(self, count: int) -> None:
        self.starts += 1

    def running(self) -> int:
        return 0

    def stop(self) -> None:
        pass

    def last_words(self) -> str:
        return ""


def test_workers_that_end_without_doing_a_case_are_started_once_more(cohort):
    engine = NobodyWorks()
    with pytest.raises(VolsegError, match="no worker could do a case; .* they said nothing"):
        run_cohort(cohort, engine, 1, lambda *_: None)
    assert engine.starts == 2


def test_one_that_cannot_start_does_not_stop_one_that_works(cohort):
    """Its replacements end at once, while the other is long at its case."""
    queue = TicketQueue(cohort)

    class OneWorks(NobodyWorks):
        looks = 0

        def running(self) -> int:
            self.looks += 1
            if self.looks == 20:
                while ticket := queue.claim("it"):
                    queue.close("it", ticket)
            return int(self.looks <= 20)

    engine = OneWorks()
    do_all(TicketQueue(cohort), engine, 2, lambda _: None)
    assert queue.unfinished() == set()
    assert engine.starts == 2


def test_workers_that_cannot_work_end_the_run_with_what_they_said(cohort, tiny_bundle, monkeypatch):
    monkeypatch.setattr("volseg.cohort.engine._MOST_STARTS_IN_VAIN", 1)  # each takes seconds
    (tiny_bundle / "models" / "model.pt").write_bytes(b"damaged")
    engine = LocalEngine(cohort.path, WorkerOptions(run="test"))
    with pytest.raises(VolsegError, match="no worker could do a case; .* is not the one"):
        run_cohort(cohort, engine, 1, lambda *_: None)
    assert cohort_status(cohort).waiting == 6


@pytest.mark.slow
def test_slurm(slurm, cohort, expected, monkeypatch):
    """A job array on a real SLURM; one job is killed with signal 9 in the middle of a case."""
    options = WorkerOptions(run=cohort.path.parent.name)
    engine = SlurmEngine(
        cohort.path, options, {"time": "0:10:00", "partition": "short"}, interval=1
    )
    killed: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # submitit's, that this SLURM keeps no accounts
        run_cohort(cohort, engine, 2, killing_one(cohort, engine, killed))
    assert_all_done(cohort, expected, killed)
    assert engine.running() == 0


def test_slurm_refuses_in_a_sentence(slurm, cohort):
    engine = SlurmEngine(cohort.path, WorkerOptions(run="x"), {"partition": "nowhere"}, interval=1)
    with pytest.raises(VolsegError, match="SLURM took no jobs: .*partition"):
        run_cohort(cohort, engine, 1, lambda *_: None)


def test_options_of_sbatch(slurm):
    from submitit.slurm.slurm import SlurmExecutor

    requested = {"time": "1-2:30", "mem": "8G", "cpus-per-task": "4", "reservation": "mri"}
    parameters, others = slurm_parameters(requested, SlurmExecutor._valid_parameters())
    assert parameters == {"time": 1590, "mem": "8G", "cpus_per_task": 4}
    assert others == {"reservation": "mri"}
    for text, minutes in {
        "90": 90,
        "90:30": 91,
        "1:30:00": 90,
        "2-0": 2880,
        "1-1:1:1": 1502,
    }.items():
        assert slurm_parameters({"time": text}, set())[0]["time"] == minutes
    with pytest.raises(InputError, match="'soon' cannot be read"):
        slurm_parameters({"time": "soon"}, set())


def test_jobs_keep_the_name_that_they_are_found_by():
    with pytest.raises(InputError, match="job-name cannot be chosen"):
        slurm_parameters({"job-name": "mine"}, {"job_name"})


def test_values_of_sbatch_may_hold_commas():
    choice = engine_choice(slurm="partition=short,long,nodelist=a[1,3], time=5,")
    assert choice.slurm == {"partition": "short,long", "nodelist": "a[1,3]", "time": "5"}


def test_dask(cohort, expected):
    """A cluster of one process; its worker takes all cases."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        engine = DaskEngine(
            cohort.path, WorkerOptions(run="dask", lease=2), cluster.scheduler_address
        )
        run_cohort(cohort, engine, 1, lambda *_: None)
    assert label_maps(cohort) == expected


def test_no_scheduler_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_engine, "_ANSWER_SECONDS", 1)
    with pytest.raises(InputError, match="no Dask scheduler answers at 'tcp://127.0.0.1:1'"):
        DaskEngine(tmp_path, WorkerOptions(), "tcp://127.0.0.1:1")


def test_workers_share_the_machine(tmp_path, monkeypatch):
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **_: commands.append(words))
    options = WorkerOptions(memory="8GB", threads=8, device="cpu")
    LocalEngine.sharing(tmp_path, options, 4).start(4)
    assert len(commands) == 4
    for words in commands:
        assert {"--memory=2000000000", "--threads=2"} <= set(words)
