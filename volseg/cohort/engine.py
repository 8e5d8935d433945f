"""What starts workers somewhere, and how many of them are to be there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from volseg.cohort.queue import TicketQueue
from volseg.errors import VolsegError

_MOST_STARTS_IN_VAIN = 2
_PARTING_SECONDS = 5.0
_REST = 10


class Engine(Protocol):
    """Starts workers: processes, jobs of a cluster, tasks. All of them call `work`."""

    interval: float
    """Seconds between looks at it."""

    def start(self, count: int) -> None:
        """Start so many workers more."""

    def running(self) -> int:
        """Return how many workers are there, or will be when their turn comes."""

    def stop(self) -> None:
        """Have all workers give back what they are at and leave; returns when they are gone."""

    def last_words(self) -> str:
        """Return what a worker that could not work said last; empty if none did."""


def do_all(
    queue: TicketQueue, engine: Engine, workers: int, progress: Callable[[int], None]
) -> None:
    """Have workers do all tickets of a queue; those that die are replaced.

    Args:
        queue: The queue.
        engine: What starts workers.
        workers: How many at a time.
        progress: Called with the number of tickets that are left.

    Raises:
        VolsegError: Workers end again and again without doing a case, and none is at work.
    """
    in_vain, before = 0, None
    try:
        while True:
            began = time.monotonic()
            left, claimable = queue.unfinished(), queue.claimable()
            looking = time.monotonic() - began
            if not left:
                break
            progress(len(left))
            running = engine.running()
            missing = min(workers, claimable) - running
            if missing > 0:
                in_vain = in_vain + 1 if left == before else 0
                if in_vain < _MOST_STARTS_IN_VAIN:
                    before = left
                    engine.start(missing)
                elif not running:  # else more are started once those at work have done a case
                    said = engine.last_words() or "they said nothing"
                    raise VolsegError(f"no worker could do a case; the last one said: {said}")
            # Looking at a hundred thousand tickets takes a while: it is not done all the time.
            time.sleep(max(engine.interval, _REST * looking))
        progress(0)
        _let_leave(engine)
    finally:
        engine.stop()


def _let_leave(engine: Engine) -> None:
    """Wait a little for workers that find nothing more to do, and leave by themselves."""
    until = time.monotonic() + _PARTING_SECONDS
    while engine.running() and time.monotonic() < until:
        time.sleep(min(engine.interval, 0.5))
