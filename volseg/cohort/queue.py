"""The queue of a cohort: empty files whose names are the tickets, on any shared file system.

A case that waits has a file in ``todo``; a worker takes it by renaming it into a folder of its
own, which of many succeeds for one. The name says how often a worker has died of the case, so
taking over from the dead is one rename, too: there is no moment at which a ticket is lost or
half-written, no server, no lock. Should a worker be taken for dead that is only slow, two do the
same case, to the same bits; nothing depends on there being one.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from volseg.cohort.folder import CohortFolder, list_names
from volseg.cohort.presence import Presence


@dataclass(frozen=True)
class Ticket:
    """A case to be done.

    Attributes:
        case: Its name.
        deaths: How many workers have died with it.
    """

    case: str
    deaths: int = 0

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.deaths}.{self.case}"

    @classmethod
    def named(cls, name: str) -> Ticket:
        """Return the ticket that a file stands for."""
        deaths, _, case = name.partition(".")
        return cls(case, int(deaths))


class TicketQueue:
    """The tickets of a cohort, as one worker sees them.

    Args:
        cohort: Its folder.
    """

    def __init__(self, cohort: CohortFolder) -> None:
        self._cohort = cohort
        self._todo = cohort.path / "queue" / "todo"
        self._claimed = cohort.path / "queue" / "claimed"
        self._seen: list[Path] = []  # tickets that waited when the folder was last looked at
        self.presence = Presence(cohort.path / "queue" / "workers")

    def put(self, cases: Iterable[str]) -> None:
        """Add tickets."""
        for shard in self._cohort.shard_names():
            (self._todo / shard).mkdir(parents=True, exist_ok=True)
        for case in cases:
            self._waiting(Ticket(case)).touch()

    def claim(self, worker: str) -> Ticket | None:
        """Take a ticket that waits, or that one who is dead has left; None if there is none."""
        own = self._claimed / worker
        own.mkdir(parents=True, exist_ok=True)
        for place in self._waiting_in_any_order():
            if _moved(place, own / place.name):
                return Ticket.named(place.name)
        for place in self._left_by_the_dead(besides=worker):
            left = Ticket.named(place.name)
            ticket = Ticket(left.case, left.deaths + 1)
            if _moved(place, own / ticket.name):
                return ticket
        return None

    def give_back(self, worker: str, ticket: Ticket) -> None:
        """Let others have a ticket that was not finished."""
        _moved(self._claimed / worker / ticket.name, self._waiting(ticket))

    def close(self, worker: str, ticket: Ticket) -> None:
        """Remove the ticket of a case that was finished."""
        (self._claimed / worker / ticket.name).unlink(missing_ok=True)

    def leave(self, worker: str) -> None:
        """Remove the folder of a worker that has no tickets any more."""
        with contextlib.suppress(OSError):
            (self._claimed / worker).rmdir()

    def waiting(self) -> set[Ticket]:
        """Return the tickets that wait."""
        return set(map(Ticket.named, self._cohort.names_in("queue", "todo")))

    def claimed(self) -> dict[str, set[Ticket]]:
        """Return the tickets that workers hold, dead ones as well."""
        return {
            worker: set(map(Ticket.named, list_names(self._claimed / worker)))
            for worker in list_names(self._claimed)
        }

    def unfinished(self) -> set[Ticket]:
        """Return all tickets, also those that move from one folder to another meanwhile."""
        return self._tickets() | self._tickets()

    def _tickets(self) -> set[Ticket]:
        return self.waiting().union(*self.claimed().values())

    def claimable(self) -> int:
        """Return how many tickets wait, or were left by the dead."""
        return len(self.waiting()) + sum(1 for _ in self._left_by_the_dead())

    def _waiting(self, ticket: Ticket) -> Path:
        return self._todo / self._cohort.shard(ticket.case) / ticket.name

    def _waiting_in_any_order(self) -> Iterator[Path]:
        """Yield tickets that wait; each worker goes its own way, so that few meet."""
        while self._seen:
            yield self._seen.pop()
        shards = self._cohort.shard_names()
        random.shuffle(shards)
        for shard in shards:
            self._seen = [self._todo / shard / name for name in list_names(self._todo / shard)]
            random.shuffle(self._seen)
            while self._seen:
                yield self._seen.pop()

    def _left_by_the_dead(self, besides: str = "") -> Iterator[Path]:
        for worker in list_names(self._claimed):
            names = list_names(self._claimed / worker)
            if worker == besides or self.presence.find(worker) is not None:
                continue
            for name in names:
                yield self._claimed / worker / name
            if not names:
                self.leave(worker)
                self.presence.forget(worker)


def _moved(source: Path, target: Path) -> bool:
    """Return whether this process was the one to move a ticket."""
    try:
        os.rename(source, target)  # noqa: PTH104 - of a hundred thousand
    except FileNotFoundError:
        # A network file system may repeat a rename whose answer was lost, and then find nothing.
        return target.exists()
    return True
