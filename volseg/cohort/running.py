"""Running a cohort: what is not done yet is put into the queue, and workers see to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from volseg.cohort.case import CohortCase
from volseg.cohort.engine import Engine, do_all
from volseg.cohort.folder import CohortFolder
from volseg.cohort.outcome import cases_in_state, is_current, read_outcome, redo_case
from volseg.cohort.queue import TicketQueue
from volseg.cohort.settings import CohortSettings
from volseg.errors import InputError, UnknownNameError

# Files of a network are looked at by many at once: it is the waiting that takes long.
_LOOKING = 16


def prepare_cohort(
    out: str | Path, settings: CohortSettings, cases: Iterable[CohortCase]
) -> CohortFolder:
    """Write down what is asked for, and queue each case that is not done so.

    A case is left if it was done, or failed, with the same images and the same settings.

    Raises:
        InputError: Another run is at work there with other settings.
        OutputError: The folder cannot be written.
    """
    out, cases = Path(out), list(cases)
    if (out / "cohort.json").exists():
        before = CohortFolder.open(out)
        if before.settings.key != settings.key and TicketQueue(before).presence.alive():
            raise InputError(
                f"another run is at work in {out} with another bundle or other options: wait for "
                "its end, or give another folder."
            )
    cohort = CohortFolder.prepare(out, settings, cases)
    queue = TicketQueue(cohort)
    # In the order in which tickets move: none is missed on its way.
    queued = {ticket.case for ticket in queue.unfinished()}
    known = cases_in_state(cohort, "done") | cases_in_state(cohort, "failed")

    def is_wanted(case: CohortCase) -> bool:
        return case.case not in known or not is_current(
            cohort, case, read_outcome(cohort, case.case)
        )

    open_cases = [case for case in cases if case.case not in queued]
    with ThreadPoolExecutor(_LOOKING) as threads:
        wanted = threads.map(is_wanted, open_cases)
        queue.put(case.case for case, is_new in zip(open_cases, wanted, strict=True) if is_new)
    return cohort


def requeue(cohort: CohortFolder, cases: Iterable[str] = ()) -> int:
    """Queue cases again, and return how many.

    Args:
        cohort: Its folder.
        cases: Names; all that failed without them.

    Raises:
        UnknownNameError: The cohort has no such case.
    """
    known = cohort.read_cases()
    names = list(cases) or sorted(cases_in_state(cohort, "failed") & known.keys())
    for name in names:
        if name not in known:
            raise UnknownNameError("case", name, known)
    queue = TicketQueue(cohort)
    queued = {ticket.case for ticket in queue.unfinished()}
    for name in names:
        if name not in queued:
            redo_case(cohort, name)
    queue.put(name for name in names if name not in queued)
    return len(names)


def run_cohort(
    cohort: CohortFolder, engine: Engine, workers: int, progress: Callable[[int, int], None]
) -> None:
    """Have workers do what is queued.

    Args:
        cohort: Its folder.
        engine: What starts workers.
        workers: How many at a time.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        VolsegError: No worker can work.
    """
    total = len(cohort.read_cases())
    do_all(TicketQueue(cohort), engine, workers, lambda left: progress(total - left, total))
