"""Run the queue of a cohort at full size, without segmenting; what it costs goes into the docs.

    python scripts/simulate_cohort.py --cases 2000 --workers 4
    python scripts/simulate_cohort.py --cases 100000 --workers 8 --write

All is real but the segmentation: tickets, claims, heartbeats, outcomes, the status, the table, and
the look at every case that begins a second run. Some of the workers are killed on the way, with
signal 9 in the middle of a case. In the end every case has to be done.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import zip_longest
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from readme import header, row, write_section
from volseg.cohort.case import CohortCase
from volseg.cohort.content import digest_of, stamp_of
from volseg.cohort.folder import CohortFolder
from volseg.cohort.outcome import Outcome, write_outcome
from volseg.cohort.presence import Worker
from volseg.cohort.queue import TicketQueue
from volseg.cohort.running import prepare_cohort
from volseg.cohort.settings import CohortSettings
from volseg.cohort.status import cohort_status
from volseg.cohort.table import write_table
from volseg.training.machine import processor_name

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "cohorts.md"
_SETTINGS = CohortSettings(bundles=("simulated",), digests=("",))
_AGAIN = "a second run with nothing to do, s"
_BYTES = "bytes beside the label maps"
_LABEL_BYTES = 1000  # what stands for a label map


def drain(out: str, dies_after: int | None, together: Barrier | None) -> None:
    """Take tickets until there are none, and leave for each what a worker leaves.

    Args:
        out: Folder of the cohort.
        dies_after: So many cases, in the middle of the next one.
        together: What it waits at before the first ticket, with the others.
    """
    cohort = CohortFolder.open(out)
    queue, cases = TicketQueue(cohort), cohort.read_cases()
    worker = Worker.here()
    record = json.dumps(_record()).encode()
    finished = 0
    if together is not None:
        together.wait()
    with queue.presence.of(worker):
        while (ticket := queue.claim(worker.name)) is not None:
            case = cases[ticket.case]
            folder = cohort.results(case.case)
            folder.mkdir(parents=True, exist_ok=True)
            names = {
                f"{case.case}_seg.nii.gz": bytes(_LABEL_BYTES),
                f"{case.case}_record.json": record,
            }
            for name, content in names.items():
                (folder / name).write_bytes(content)
            if finished == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            outcome = Outcome(
                case.case,
                "done",
                settings=cohort.settings.key,
                stamp=stamp_of(case.paths),
                digest=digest_of(case.paths),
                files={"nifti": f"{case.case}_seg.nii.gz"},
                record=f"{case.case}_record.json",
                deaths=ticket.deaths,
                worker=worker.name,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            write_outcome(cohort, outcome)
            queue.close(worker.name, ticket)
            finished += 1
        queue.leave(worker.name)


def simulate(out: Path, *, cases: int, workers: int, kills: int = 0) -> dict[str, float]:
    """Run a cohort of so many cases, and return what was measured.

    Args:
        out: An empty folder.
        cases: How many.
        workers: How many processes at a time.
        kills: How many of them are killed on the way, and replaced; at most `workers`.

    Returns:
        Seconds of each step, counts of files, and bytes.
    """
    image = out / "image.nii.gz"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(bytes(1000))
    listed = [
        CohortCase(f"sub-{number:06d}_ct", str(image), columns={"group": str(number % 2)})
        for number in range(cases)
    ]
    found: dict[str, float] = {"cases": cases, "workers": workers}
    folder = out / "cohort"
    with _measured(found, "queueing, s"):
        cohort = prepare_cohort(folder, _SETTINGS, listed)
    with _measured(found, "all cases through the queue, s"):
        deaths = [cases * (death + 1) // (workers * (kills + 1)) for death in range(kills)]
        found["workers killed"] = _with_workers(folder, workers, deaths, TicketQueue(cohort))
    with _measured(found, "status, s"):
        status = cohort_status(cohort)
    if (status.done, status.total) != (cases, cases):
        raise SystemExit(f"of {cases} cases {status.done} are done: the queue lost some.")
    with _measured(found, "table, s"):
        write_table(cohort)
    with _measured(found, _AGAIN):
        prepare_cohort(folder, _SETTINGS, listed)
    files = [path for path in folder.rglob("*") if path.is_file()]
    found["files"] = len(files)
    found[_BYTES] = sum(
        path.stat().st_size for path in files if not path.name.endswith("_seg.nii.gz")
    )
    found["most names in a folder"] = max(
        len([*place.iterdir()]) for place in folder.rglob("*") if place.is_dir()
    )
    return found


def _with_workers(folder: Path, workers: int, deaths: Sequence[int], queue: TicketQueue) -> int:
    """Have processes do all tickets, and replace those that die; return how many died.

    Args:
        folder: Of the cohort.
        workers: How many processes at a time.
        deaths: After how many cases the first of them die.
        queue: Of the cohort.
    """
    context = multiprocessing.get_context("forkserver")
    # So that libraries load once. It passes over what it does not find, as it does this script.
    context.set_forkserver_preload(["volseg.cohort.running", "volseg.training.machine"])

    # None does it all while the others are still starting.
    together = context.Barrier(workers)

    def start(dies_after: int | None = None, together: Barrier | None = None) -> Any:
        process = context.Process(target=drain, args=(str(folder), dies_after, together))
        process.start()
        return process

    running = [start(after, together) for after, _ in zip_longest(deaths, range(workers))]
    died = 0
    while running:
        for process in list(running):
            process.join(0.05)
            if process.exitcode is not None:
                running.remove(process)
                died += process.exitcode != 0
                if queue.claimable():
                    running.append(start())
    return died


@contextmanager
def _measured(found: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    found[what] = round(time.perf_counter() - started, 2)


def _record() -> dict[str, Any]:
    """Return a record as long as a real one of two labels."""
    numbers = {"mean": 1.0, "standard_deviation": 1.0, "minimum": 0.0, "maximum": 2.0}
    intensities = {**numbers, "voxels": 1000, "percentiles": {"50": 1.0}}
    sizes = {"voxels": 1000, "volume_ml": 1.0, "area_mm2": None, "surface_mm2": 600.0}
    return {
        "statistics": [
            {"name": name, **sizes, "intensities": [intensities], "place": "0" * 900}
            for name in ("anterior", "posterior")
        ],
        "quality": {"severity": None, "flags": []},
        "bundles": [{"name": "simulated", "version": "0", "sha256": "0" * 64}],
        "peak_memory_bytes": 10**9,
        "volseg": "0",
    }


def document(found: dict[str, float]) -> list[str]:
    """Return what was measured as a table, with rates."""
    cases = found["cases"]
    through = found["all cases through the queue, s"]
    each = 1000 * found["workers"] * through / cases
    rows = {
        "cases": f"{cases:,.0f}",
        "workers": f"{found['workers']:.0f}; {found['workers killed']:.0f} were killed with "
        "signal 9 in the middle of a case",
        "putting all into the queue": f"{found['queueing, s']:.1f} s",
        "claim, hash of the image, results, outcome, close": f"{through:.0f} s: "
        f"{cases / through:,.0f} cases/s, {each:.1f} ms a case and worker",
        "`volseg cohort status`": f"{found['status, s']:.1f} s",
        "the table, CSV and Parquet": f"{found['table, s']:.1f} s",
        "a second run that finds nothing to do": f"{found[_AGAIN]:.1f} s",
        "files": f"{found['files']:,.0f}, {found['files'] / cases:.2f} a case",
        "most names in a folder": f"{found['most names in a folder']:,.0f}",
        "bytes beside the label maps": f"{found[_BYTES] / cases:,.0f} a case",
    }
    machine = f"{os.cpu_count()} cores of {processor_name()}, local disk"
    where = f"On {datetime.now(UTC):%Y-%m-%d}, {machine}."
    return [*header(["what", "measured"]), *(row([*pair]) for pair in rows.items()), "", where]


def main() -> None:
    """Read the arguments, simulate, and show or write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the file system to be measured")
    parser.add_argument("--write", action="store_true", help="into docs/cohorts.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="cohort-") as out:
        found = simulate(
            Path(out), cases=arguments.cases, workers=arguments.workers, kills=arguments.kills
        )
    lines = document(found)
    print("\n".join(lines))
    if arguments.write:
        write_section("queue", "scripts/simulate_cohort.py", lines, readme=DOCUMENT)


if __name__ == "__main__":
    main()
