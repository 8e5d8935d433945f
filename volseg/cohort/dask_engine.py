"""Workers as tasks of Dask, for those who have a cluster of it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from volseg.cohort.presence import Presence
from volseg.cohort.worker import WorkerOptions, work
from volseg.errors import InputError, MissingPackageError

_ANSWER_SECONDS = 10
_PATIENCE = 120.0  # seconds; a task hears of it at its next beat


class DaskEngine:
    """Submits tasks, spread over the workers of Dask.

    Args:
        out: Folder of the cohort, on a file system that all workers share.
        options: Of every worker.
        address: Of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises:
        InputError: No scheduler answers there, or it has no workers.
        MissingPackageError: distributed is not installed.
    """

    interval = 1.0

    def __init__(self, out: Path, options: WorkerOptions, address: str) -> None:
        try:
            from distributed import Client  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise MissingPackageError("running on Dask", "distributed", "dask") from error
        try:
            self._client: Any = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {address!r}: {error}.") from error
        self._out, self._options = str(out), options
        self._presence = Presence(out / "queue" / "workers")
        self._tasks: list[Any] = []
        self._turns = itertools.count()
        if not self.places:
            raise InputError(f"the Dask scheduler at {address} has no workers: start some first.")

    @property
    def places(self) -> list[str]:
        """The addresses of the workers that Dask has now."""
        return sorted(self._client.ncores())

    def start(self, count: int) -> None:
        """Submit so many tasks."""
        places = self.places
        for turn in itertools.islice(self._turns, count):
            place = places[turn % len(places)] if places else None
            self._tasks.append(
                self._client.submit(
                    work,
                    self._out,
                    self._options,
                    key=f"volseg-{self._options.run}-{turn}",
                    workers=place,
                    allow_other_workers=True,
                )
            )

    def running(self) -> int:
        """Return how many tasks are not over."""
        return sum(1 for task in self._tasks if not task.done())

    def stop(self) -> None:
        """Tell the tasks to leave, wait for them, and part from Dask."""
        self._presence.stop(self._options.run)
        until = time.monotonic() + _PATIENCE
        while self.running() and time.monotonic() < until:
            time.sleep(self.interval)
        self._client.cancel(self._tasks)
        self._client.close()

    def last_words(self) -> str:
        """Return what the last task that failed said."""
        failed = [task for task in self._tasks if task.status == "error"]
        return str(failed[-1].exception()) if failed else ""
