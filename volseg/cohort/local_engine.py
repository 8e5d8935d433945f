"""Workers as processes of this machine, each with its share of the cores and of the memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from volseg.cohort.worker import WorkerOptions
from volseg.job_limits import usable_processors
from volseg.segmenter import bytes_of

_PATIENCE = 30.0  # seconds that a worker has to give back what it is at


@dataclass(frozen=True)
class _Process:
    place: int
    process: subprocess.Popen[bytes]
    log: Path


class LocalEngine:
    """Starts ``volseg cohort work``.

    Args:
        out: Folder of the cohort.
        options: Of every worker.
        devices: Given to workers in turn; that of the options without it.
    """

    interval = 0.5

    def __init__(self, out: Path, options: WorkerOptions, *, devices: tuple[str, ...] = ()) -> None:
        self._out = out
        self._options = replace(options, parent=os.getpid())
        self._devices = devices or (options.device,)
        self._processes: list[_Process] = []
        self._failed: Path | None = None

    @classmethod
    def sharing(cls, out: Path, options: WorkerOptions, workers: int) -> LocalEngine:
        """Return what starts workers that share the cores, the memory and the GPUs of the machine.

        Args:
            out: Folder of the cohort.
            options: Of all workers together.
            workers: How many there are to be at a time.
        """
        memory = None if options.memory is None else bytes_of(options.memory) // workers
        threads = max(1, (options.threads or usable_processors()) // workers)
        gpus = torch.cuda.device_count() if options.device in ("auto", "cuda") else 0
        devices = tuple(f"cuda:{index}" for index in range(gpus)) if gpus > 1 else ()
        return cls(out, replace(options, memory=memory, threads=threads), devices=devices)

    def start(self, count: int) -> None:
        """Start so many processes more, in the places that are free."""
        taken = {one.place for one in self._processes}
        free = [place for place in range(len(taken) + count) if place not in taken]
        logs = self._out / "queue" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for place in free[:count]:
            log = logs / f"{self._options.run}-{place}.log"
            options = replace(self._options, device=self._devices[place % len(self._devices)])
            # Nothing of the folder that this is called in.
            words = [sys.executable, "-P", "-m", "volseg", "cohort", "work", str(self._out)]
            with log.open("ab") as stream:
                # In a session of its own: Ctrl-C reaches this process, which tells the others.
                process = subprocess.Popen(  # noqa: S603 - our own command
                    [*words, *options.as_words()],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
            self._processes.append(_Process(place, process, log))

    def running(self) -> int:
        """Return how many processes are there."""
        for one in list(self._processes):
            code = one.process.poll()
            if code is not None:
                self._processes.remove(one)
                if code:
                    self._failed = one.log
        return len(self._processes)

    def stop(self) -> None:
        """Ask all processes to leave; those that do not are killed."""
        for one in self._processes:
            one.process.terminate()
        until = time.monotonic() + _PATIENCE
        try:
            while self.running() and time.monotonic() < until:
                time.sleep(0.05)
        finally:  # also of those who press Ctrl-C again
            for one in self._processes:
                one.process.kill()
                one.process.wait()
            self._processes.clear()

    def last_words(self) -> str:
        """Return the last line of the log of the last process that failed."""
        if self._failed is None:
            return ""
        lines = self._failed.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1].removeprefix('error: ') if said else 'nothing'} ({self._failed})"
