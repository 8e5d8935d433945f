"""Which workers are at work: each keeps a file that it touches while it lives.

A worker of this machine is gone when its process is. Of others nothing can be told but their
silence: one that has not touched its file for the length of its lease counts as gone. Times are
those of the file system that all share, so the clocks of the machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from volseg.cohort.folder import list_names

LEASE_SECONDS = 90.0
"""How long a worker may be silent. Caches of network file systems hide changes for up to 60 s."""
_BEATS_IN_A_LEASE = 9
# When a process began is told by the clock of the machine, which may be set meanwhile.
_SAME_SECONDS = 5


@dataclass(frozen=True)
class Worker:
    """A worker.

    Attributes:
        name: Told apart from all others.
        run: The run that started it; empty if it was started by hand.
        machine: Where its process number means something.
        process: Number of its process.
        since: When its process began, seconds since 1970.
        lease: Seconds that it may be silent.
    """

    name: str
    run: str
    machine: str
    process: int
    since: float
    lease: float

    @classmethod
    def here(cls, *, run: str = "", lease: float = LEASE_SECONDS) -> Worker:
        """Return a new worker in this process."""
        process = psutil.Process()
        name = f"{socket.gethostname()}-{process.pid}-{secrets.token_hex(4)}"
        return cls(name, run, _machine(), process.pid, process.create_time(), lease)


class Presence:
    """The workers of a cohort.

    Args:
        folder: Where their files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def of(self, worker: Worker) -> Iterator[threading.Event]:
        """Show that a worker is there while the block runs.

        Yields:
            An event that is set when it should leave: its run was told to stop.
        """
        leave, ended = threading.Event(), threading.Event()

        def beat() -> None:
            while not ended.wait(worker.lease / _BEATS_IN_A_LEASE):
                with contextlib.suppress(OSError):  # the file system may be back at the next beat
                    self._show(worker)
                if self._stop_file(worker.run).exists():
                    leave.set()

        self.folder.mkdir(parents=True, exist_ok=True)
        self._show(worker)
        beating = threading.Thread(target=beat, daemon=True, name="heartbeat")
        beating.start()
        try:
            yield leave
        finally:
            ended.set()
            beating.join()
            self.forget(worker.name)

    def find(self, name: str) -> Worker | None:
        """Return a worker that is at work, as far as can be told; None if it is not."""
        try:
            # Opening a file has network file systems look at what is really there.
            with self._file(name).open(encoding="utf-8") as stream:
                touched = os.fstat(stream.fileno()).st_mtime
                worker = Worker(**json.load(stream))
        except (FileNotFoundError, ValueError):  # emptied by a power cut, which the worker shared
            return None
        if worker.machine == _machine() and not _runs(worker.process, worker.since):
            return None
        return worker if self._now() - touched < worker.lease else None

    def alive(self) -> list[Worker]:
        """Return the workers at work."""
        found = [self.find(name.removesuffix(".json")) for name in list_names(self.folder)]
        return [worker for worker in found if worker is not None]

    def forget(self, name: str) -> None:
        """Remove the file of a worker that is gone."""
        self._file(name).unlink(missing_ok=True)

    def stop(self, run: str) -> None:
        """Tell all workers of a run, wherever they are, to leave at their next beat."""
        self._stop_file(run).parent.mkdir(parents=True, exist_ok=True)
        self._stop_file(run).touch()

    def _show(self, worker: Worker) -> None:
        file = self._file(worker.name)
        try:
            os.utime(file)
        except FileNotFoundError:  # the first time, and where others took the worker for dead
            whole = self.folder / f".{worker.name}"
            whole.write_text(json.dumps(asdict(worker)), encoding="utf-8")
            whole.replace(file)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _stop_file(self, run: str) -> Path:
        return self.folder.with_name("stopped") / (run or "by hand")

    def _now(self) -> float:
        """Return what time it is for the file system."""
        clock = self.folder.with_name("clock")
        try:
            clock.touch()
            return clock.stat().st_mtime
        except OSError:  # one who may only look
            return time.time()


def _machine() -> str:
    """Return what tells machines, and containers on one, apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _runs(process: int, since: float) -> bool:
    """Return whether a process is there, and not another with its number."""
    try:
        found = psutil.Process(process)
        same = abs(found.create_time() - since) < _SAME_SECONDS
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
