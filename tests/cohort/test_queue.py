"""The queue: each ticket to one worker, none lost, whoever dies when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from volseg.cohort import cohort_rows, cohort_status
from volseg.cohort.case import CohortCase
from volseg.cohort.folder import CohortFolder, list_names
from volseg.cohort.presence import Worker
from volseg.cohort.queue import Ticket, TicketQueue
from volseg.cohort.settings import CohortSettings

SETTINGS = CohortSettings(bundles=("none",), digests=("",))


def cohort_of(folder: Path, count: int) -> CohortFolder:
    cases = [CohortCase(f"case.{number}", "none") for number in range(count)]
    cohort = CohortFolder.prepare(folder, SETTINGS, cases)
    TicketQueue(cohort).put(case.case for case in cases)
    return cohort


def test_many_workers_do_each_case_whoever_is_killed(tmp_path: Path) -> None:
    """The simulation itself counts the outcomes."""
    from simulate_cohort import simulate

    found = simulate(tmp_path, cases=900, workers=3, kills=2)
    assert found["workers killed"] == 2
    cohort = CohortFolder.open(tmp_path / "cohort")
    assert sum(row["workers_died"] for row in cohort_rows(cohort)) == 2
    assert TicketQueue(cohort).unfinished() == set()
    assert list((cohort.path / "queue" / "claimed").iterdir()) == []


def test_the_tickets_of_a_large_cohort_are_dealt_into_folders(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 6000)
    queue = TicketQueue(cohort)
    folders = [len([*folder.iterdir()]) for folder in (tmp_path / "queue" / "todo").iterdir()]
    assert len(folders) == 256
    assert max(folders) < 60
    taken = {queue.claim("worker") for _ in range(6000)}
    assert {ticket.case for ticket in taken} == cohort.read_cases().keys()
    assert queue.claim("worker") is None
    # A cohort keeps its layout when it shrinks or grows.
    again = CohortFolder.prepare(tmp_path, SETTINGS, [CohortCase("one", "none")])
    assert again.shard("one") == CohortFolder.open(tmp_path).shard("one") != ""


def test_the_dead_are_succeeded_and_counted(tmp_path: Path) -> None:
    queue = TicketQueue(cohort_of(tmp_path, 1))
    for deaths in range(3):
        worker = Worker.here()
        assert queue.claim(worker.name) == Ticket("case.0", deaths)  # and dies: no presence
    assert queue.claimable() == 1
    assert queue.unfinished() == {Ticket("case.0", 2)}


def test_a_case_that_is_taken_over_while_others_look_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would end without it."""
    cohort = cohort_of(tmp_path, 1)
    queue = TicketQueue(cohort)
    queue.claim("a dead worker")
    successor = "a successor"
    (tmp_path / "queue" / "claimed" / successor).mkdir()

    def listed(folder: Path) -> list[str]:
        names = sorted(list_names(folder), reverse=True)  # the successor first
        if folder.name == successor:  # seen to have nothing, and then takes it over
            monkeypatch.undo()
            TicketQueue(cohort).claim(successor)
        return names

    monkeypatch.setattr("volseg.cohort.queue.list_names", listed)
    assert queue.unfinished() == {Ticket("case.0", 1)}


def test_the_living_keep_what_they_have(tmp_path: Path) -> None:
    queue = TicketQueue(cohort_of(tmp_path, 1))
    worker = Worker.here()
    with queue.presence.of(worker):
        ticket = queue.claim(worker.name)
        assert ticket == Ticket("case.0")
        assert queue.claim("other") is None
        assert queue.claimable() == 0
        queue.give_back(worker.name, ticket)
        assert queue.claim("other") == ticket


def test_a_worker_of_this_machine_is_dead_when_its_process_is(tmp_path: Path) -> None:
    queue = TicketQueue(cohort_of(tmp_path, 1))
    child = subprocess.Popen(["sleep", "60"])
    here = Worker.here()
    file = queue.presence.folder / "child.json"
    file.parent.mkdir(parents=True)
    # As the child would have written it; `since` is when its process began.
    import psutil

    since = psutil.Process(child.pid).create_time()
    about = asdict(here) | {"name": "child", "process": child.pid, "since": since}
    file.write_text(json.dumps(about))
    assert queue.presence.find("child") is not None
    child.kill()
    time.sleep(0.2)  # not waited for: a zombie is dead, too
    assert queue.presence.find("child") is None
    child.wait()
    assert queue.presence.find("child") is None


def test_a_worker_of_another_machine_is_dead_when_it_is_silent(tmp_path: Path) -> None:
    """By the clock of the file system, whatever that of the machine says."""
    queue = TicketQueue(cohort_of(tmp_path, 1))
    file = queue.presence.folder / "far.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(asdict(Worker.here()) | {"name": "far", "machine": "elsewhere"}))
    assert queue.presence.find("far") is not None
    long_ago = time.time() - 91
    os.utime(file, (long_ago, long_ago))
    assert queue.presence.find("far") is None


def test_no_rate_is_told_of_workers_whose_clock_is_ahead(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 2)
    ahead = replace(Worker.here(), machine="elsewhere", since=time.time() + 60)
    with TicketQueue(cohort).presence.of(ahead):
        found = cohort_status(cohort)
    assert (found.workers, found.per_hour, found.seconds_left) == (1, None, None)


def test_a_worker_is_told_to_leave_and_shows_itself_again(tmp_path: Path) -> None:
    presence = TicketQueue(cohort_of(tmp_path, 1)).presence
    with presence.of(Worker.here(run="one", lease=0.9)) as leave:
        (worker,) = presence.alive()
        presence.forget(worker.name)  # by one who took it for dead
        presence.stop("another")
        time.sleep(0.3)
        assert presence.alive() == [worker]
        assert not leave.is_set()
        presence.stop("one")
        assert leave.wait(5)
    assert presence.alive() == []


def test_to_look_at_a_cohort_neither_torch_nor_monai_is_loaded(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 3)
    script = (
        "import sys\n"
        "from volseg.cli.main import main\n"
        f"try:\n    main(['cohort', 'status', {str(cohort.path)!r}, '--table'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'monai', 'SimpleITK', 'nibabel'} & set(sys.modules)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert shown.startswith("3 cases: 3 waiting")
    assert (tmp_path / "table.csv").is_file()
