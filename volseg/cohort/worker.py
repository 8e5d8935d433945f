"""What every worker does, whoever started it: take a case, do it, take the next.

A worker loads the bundles once. It ends when no case is left that it could take.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from volseg.cohort.case import CohortCase
from volseg.cohort.content import digest_of, stamp_of
from volseg.cohort.folder import CohortFolder
from volseg.cohort.outcome import (
    Outcome,
    is_current,
    read_outcome,
    results_are_there,
    write_outcome,
)
from volseg.cohort.presence import LEASE_SECONDS, Worker
from volseg.cohort.queue import Ticket, TicketQueue
from volseg.errors import Cancelled, InputError, OutputError, VolsegError
from volseg.segmenter import RECORD_SUFFIX, Segmenter, result_files, segment_to_files

MOST_DEATHS = 3
"""How many workers may die with a case before it is given up."""
_MOST_FAULTS = 3
# What is wrong with the place that results go to, not with a case.
_PLACE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works; none of it changes a label.

    Attributes:
        run: The run that started it, which may tell it to leave; empty if none did.
        device: As for `Segmenter`.
        memory: Most memory for the worker, as for `Segmenter`.
        trust_code: As for `Segmenter`. It is never taken from the folder of the cohort.
        lease: Seconds of silence after which others take the worker for dead.
        threads: Of the computations; what torch takes by itself without it.
        parent: The process without which the worker leaves, too.
    """

    run: str = ""
    device: str = "auto"
    memory: int | str | None = None
    trust_code: bool = False
    lease: float = LEASE_SECONDS
    threads: int | None = None
    parent: int | None = None

    def as_words(self) -> list[str]:
        """Return the options of ``volseg cohort work`` that say the same."""
        given = {
            name: value for name, value in asdict(self).items() if value not in (None, "", False)
        }
        return [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in given.items()
        ]


def work(out: str | Path, options: WorkerOptions | None = None) -> int:
    """Do the cases of a cohort that wait, and return how many this worker finished.

    Args:
        out: Folder of the cohort.
        options: How.

    Raises:
        InputError: The folder holds no cohort, or a bundle cannot be loaded here.
        OutputError: The folder of the cohort cannot be written any more.
    """
    options = options or WorkerOptions()
    cohort = CohortFolder.open(out)
    queue = TicketQueue(cohort)
    if not queue.claimable():
        return 0
    worker = Worker.here(run=options.run, lease=options.lease)
    with queue.presence.of(worker) as leave:
        # Before the first case is taken: what goes wrong here is not to be blamed on it.
        cohort.settings.require_same_bundles()
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        segmenter = Segmenter(
            cohort.settings.bundles,
            device=options.device,
            memory_budget=options.memory,
            trust_code=options.trust_code,
            **cohort.settings.choices,
        )
        must_leave = _leaving(leave, options.parent)
        try:
            return _CaseWorker(cohort, queue, worker.name, segmenter, must_leave).work()
        finally:
            queue.leave(worker.name)


def _leaving(leave: threading.Event, parent: int | None) -> Callable[[], bool]:
    """Return what says whether a worker should leave: told to, or an orphan."""
    return lambda: leave.is_set() or (parent is not None and os.getppid() != parent)


class _CaseWorker:
    """A worker with its bundles loaded."""

    def __init__(
        self,
        cohort: CohortFolder,
        queue: TicketQueue,
        name: str,
        segmenter: Segmenter,
        must_leave: Callable[[], bool],
    ) -> None:
        self._cohort = cohort
        self._queue = queue
        self._name = name
        self._segmenter = segmenter
        self._must_leave = must_leave
        self._edition = cohort.edition()
        self._cases = cohort.read_cases()
        self._faults = 0  # in a row

    def work(self) -> int:
        finished = 0
        while not self._must_leave() and (ticket := self._queue.claim(self._name)) is not None:
            try:
                self._finish(ticket)
            except Cancelled:
                self._queue.give_back(self._name, ticket)
                break
            except BaseException:  # Ctrl-C, or the folder cannot be written
                with suppress(OSError):
                    self._queue.give_back(self._name, ticket)
                raise
            self._queue.close(self._name, ticket)
            finished += 1
            if self._faults == _MOST_FAULTS:
                raise VolsegError(f"{_MOST_FAULTS} cases in a row failed unexpectedly.")
        return finished

    def _finish(self, ticket: Ticket) -> None:
        """Do a case and write what became of it."""
        case = self._case(ticket.case)
        if case is None:  # a later run is without it
            return
        before = read_outcome(self._cohort, case.case)
        if is_current(self._cohort, case, before):  # another worker was not as dead as it seemed
            return
        start = Outcome(
            case.case,
            "failed",
            settings=self._cohort.settings.key,
            deaths=ticket.deaths,
            worker=self._name,
        )
        started = time.monotonic()
        try:
            start = replace(start, stamp=stamp_of(case.paths, case.series))
            start = replace(start, digest=digest_of(case.paths, case.series))
            outcome = self._unchanged(start, before) or self._segmented(case, start)
            self._faults = 0
        except Cancelled:
            raise
        except VolsegError as error:
            _require_usable_place(error)
            self._faults = 0
            outcome = replace(start, error=str(error))
        except Exception as error:  # a fault of ours in one case must not stop the others
            _log.warning("the case %s failed unexpectedly", case.case, exc_info=True)
            self._faults += 1
            outcome = replace(start, error=f"unexpected {type(error).__name__}: {error}")
        seconds = round(time.monotonic() - started, 3)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        if outcome.state == "failed" and _is_outdated(before, outcome):
            self._remove(case.case, _results(before))
        write_outcome(self._cohort, replace(outcome, seconds=seconds, finished=finished))
        if outcome.state == "done":  # of formats that are not wanted any more
            self._remove(case.case, _results(before) - _results(outcome))

    def _case(self, name: str) -> CohortCase | None:
        """Return a case as it is asked for now: another run may have written anew what is.

        Raises:
            Cancelled: The settings changed; others begin with the new ones.
        """
        if self._cohort.edition() != self._edition:
            now = CohortFolder.open(self._cohort.path)
            if now.settings.key != self._cohort.settings.key:
                raise Cancelled("the settings of the cohort changed.")
            self._edition, self._cases = now.edition(), now.read_cases()
        return self._cases.get(name)

    def _unchanged(self, start: Outcome, before: Outcome | None) -> Outcome | None:
        """Return the outcome as it was, if only the times of the files changed."""
        if (
            before is None
            or before.to_redo
            or (before.settings, before.digest) != (start.settings, start.digest)
            or not results_are_there(self._cohort, before)
        ):
            return None
        return replace(before, stamp=start.stamp)

    def _segmented(self, case: CohortCase, start: Outcome) -> Outcome:
        if start.deaths >= MOST_DEATHS:
            raise VolsegError(
                f"{start.deaths} workers died with this case, most likely for want of memory: "
                "allow each worker less (--memory, --workers), then retry it."
            )
        folder = self._cohort.results(case.case)
        dims = self._segmenter.bundle.spatial_dims
        files = result_files(folder, case.case, self._cohort.settings.formats, spatial_dims=dims)
        image: Any = case.image if isinstance(case.image, str) else case.paths
        record = segment_to_files(
            self._segmenter,
            image,
            files,
            case=case.case,
            stable=True,
            reading={**self._cohort.settings.reading, "series": case.series},
            cancelled=self._must_leave,
        )
        names = {name: path.name for name, path in files.items()}
        done = replace(start, state="done", files=names, record=f"{case.case}{RECORD_SUFFIX}")
        if stamp_of(case.paths, case.series) != start.stamp:
            self._remove(case.case, _results(done))  # of neither the old nor the new images
            raise InputError(f"the images of {case.case} changed while they were read: retry it.")
        record.write(folder / done.record)
        return done

    def _remove(self, case: str, names: Iterable[str]) -> None:
        """Remove results of a case."""
        for name in names:
            (self._cohort.results(case) / name).unlink(missing_ok=True)


def _results(outcome: Outcome | None) -> set[str]:
    """Return the names of all that an outcome left."""
    if outcome is None or outcome.state != "done":
        return set()
    return {*outcome.files.values(), outcome.record}


def _is_outdated(before: Outcome | None, now: Outcome) -> bool:
    """Return whether results are certainly of other images or settings than are meant now."""
    return (
        before is not None
        and bool(now.digest)
        and (before.settings, before.digest) != (now.settings, now.digest)
    )


def _require_usable_place(error: VolsegError) -> None:
    """Stop the worker, not only the case, where nothing can be written any more."""
    cause = error.__cause__
    if (
        isinstance(error, OutputError)
        and isinstance(cause, OSError)
        and cause.errno in _PLACE_ERRORS
    ):
        raise error
