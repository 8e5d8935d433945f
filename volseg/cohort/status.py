"""How far a cohort is: counts, rate, time left, and what went wrong."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.cohort.case import CohortCase
from volseg.cohort.folder import CohortFolder, list_entries
from volseg.cohort.outcome import STATES, cases_in_state, read_outcome
from volseg.cohort.presence import Worker
from volseg.cohort.queue import TicketQueue

_RATE_SECONDS = 3600.0


@dataclass(frozen=True)
class Failure:
    """Cases that failed for the same reason.

    Attributes:
        sentence: The reason, with ``...`` for what differs from case to case.
        count: How many cases.
        example: The name of one.
        error: What was said of it.
    """

    sentence: str
    count: int
    example: str
    error: str


@dataclass(frozen=True)
class CohortStatus:
    """How far a cohort is.

    Attributes:
        total: Cases.
        done: Of these, how many are done.
        failed: How many failed.
        running: How many a worker is at.
        waiting: How many wait for one.
        open: How many are none of these: they are queued by the next run.
        workers: How many workers are at work.
        per_hour: Cases finished an hour, of late; None if that cannot be told.
        seconds_left: Expected; None if that cannot be told.
        failures: The reasons, the most frequent first.
    """

    total: int
    done: int
    failed: int
    running: int
    waiting: int
    open: int
    workers: int
    per_hour: float | None
    seconds_left: float | None
    failures: tuple[Failure, ...]


def cohort_status(cohort: CohortFolder) -> CohortStatus:
    """Return how far a cohort is."""
    cases = cohort.read_cases()
    queue = TicketQueue(cohort)
    waiting = {ticket.case for ticket in queue.waiting()} & cases.keys()
    claimed = {ticket.case for held in queue.claimed().values() for ticket in held} & cases.keys()
    queued = waiting | claimed
    done = (cases_in_state(cohort, "done") & cases.keys()) - queued
    failed = (cases_in_state(cohort, "failed") & cases.keys()) - queued - done
    alive = queue.presence.alive()
    per_hour = _per_hour(cohort, alive)
    return CohortStatus(
        total=len(cases),
        done=len(done),
        failed=len(failed),
        running=len(claimed),
        waiting=len(waiting - claimed),
        open=len(cases.keys() - queued - done - failed),
        workers=len(alive),
        per_hour=per_hour,
        seconds_left=3600 * len(queued) / per_hour if queued and per_hour else None,
        failures=_failures(cohort, cases, failed),
    )


def _per_hour(cohort: CohortFolder, alive: Sequence[Worker]) -> float | None:
    """Return the rate of the last hour, or since the first of the workers at work began."""
    now = time.time()
    since = max(now - _RATE_SECONDS, min((worker.since for worker in alive), default=now))
    if since >= now:  # nobody is at work, or by another clock, which is ahead
        return None
    recent = sum(
        entry.stat().st_mtime > since
        for state in STATES
        for shard in cohort.shard_names()
        for entry in list_entries(cohort.path / "status" / state / shard)
    )
    return 3600 * recent / (now - since)


def _failures(
    cohort: CohortFolder, cases: dict[str, CohortCase], failed: set[str]
) -> tuple[Failure, ...]:
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, str]] = {}
    for name in sorted(failed):
        outcome = read_outcome(cohort, name)
        if outcome is None:
            continue
        sentence = _without_particulars(outcome.error, cases[name])
        counts[sentence] += 1
        examples.setdefault(sentence, (name, outcome.error))
    return tuple(
        Failure(sentence, count, *examples[sentence]) for sentence, count in counts.most_common()
    )


def _without_particulars(sentence: str, case: CohortCase) -> str:
    """Return a sentence without the paths and numbers that are the case's own."""
    for path in case.paths.values():
        sentence = sentence.replace(str(path), "...").replace(path.name, "...")
    return re.sub(r"\d+(\.\d+)?", "...", sentence.replace(case.case, "..."))
