"""What a job costs in a process of its own: seconds, and memory at its peak."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.timing import use_threads

Figures = Mapping[str, float]

# What the machine keeps: a job that wants more is stopped before the machine runs out of memory.
_RESERVE = 1 << 30
_SAMPLED_EVERY = 0.01  # seconds


class Job(Protocol):
    """Something to measure; it travels to another process as it is."""

    def prepare(self) -> Callable[[], Figures]:
        """Do what is not measured and return what is, which may give figures of its own."""


@dataclass(frozen=True)
class Cost:
    """What a job took; memory in bytes.

    Attributes:
        seconds: Of the job alone; everything imported and loaded.
        before: Memory before the job: what is imported, weights, what it is given.
        peak: The most that was resident during the job (VmHWM), mapped files among it.
        anonymous_before: Of `before`, what is no mapped file.
        anonymous_peak: Of the peak, what is no mapped file; sampled every 10 ms.
        exceeded: The machine's memory was not enough: the peak is what was reached till then.
        figures: What the job itself tells.
    """

    seconds: float
    before: int
    peak: int
    anonymous_before: int
    anonymous_peak: int
    exceeded: bool = False
    figures: Figures = field(default_factory=dict)

    @property
    def memory(self) -> int:
        """What the job needed on top of what was there."""
        return self.peak - self.before

    @property
    def anonymous_memory(self) -> int:
        """Of that, what is no mapped file."""
        return self.anonymous_peak - self.anonymous_before


class NotMeasuredError(Exception):
    """A job cannot be measured here; the message says why."""


def in_turns(jobs: Mapping[str, Job], *, repeats: int, threads: int) -> dict[str, list[Cost]]:
    """Return the costs of jobs that are run one after the other, each time in a new process.

    The order turns around each time. What exceeded the machine's memory is not run again.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in jobs}
    names = list(jobs)
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else names[::-1]:
            if any(cost.exceeded for cost in costs[name]):
                continue
            costs[name].append(cost_of(jobs[name], threads=threads))
            last = costs[name][-1]
            print(f"  {name}: {last.seconds:.1f} s, {last.memory >> 20} MiB", flush=True)
    return costs


def cost_of(job: Job, *, threads: int) -> Cost:
    """Return what a job costs.

    Raises:
        NotMeasuredError: The process ended before the job did.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_measured, job, threads).result()
        except BrokenProcessPool as error:
            raise NotMeasuredError("the process was killed, most likely for memory") from error


def median_seconds(costs: Sequence[Cost]) -> float:
    """Return the median of the seconds."""
    ordered = sorted(cost.seconds for cost in costs)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[-1 - middle]) / 2


def _measured(job: Job, threads: int) -> Cost:
    """Run in the new process."""
    use_threads(threads)
    run = job.prepare()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    _limit_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts from here
    before, anonymous = _status("VmHWM"), _status("RssAnon")
    figures: Figures = {}
    exceeded = False
    with _Sampler() as sampler:
        started = time.perf_counter()
        try:
            figures = run()
        except (MemoryError, RuntimeError) as error:
            if not is_of_memory(error):
                raise
            exceeded = True
        seconds = time.perf_counter() - started
    return Cost(
        seconds=seconds,
        before=before,
        peak=_status("VmHWM"),
        anonymous_before=anonymous,
        anonymous_peak=sampler.peak,
        exceeded=exceeded,
        figures=figures,
    )


def is_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, says that memory was not enough."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


class _Sampler:
    """The highest anonymous memory of this process while it is entered."""

    def __init__(self) -> None:
        self.peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, _status("RssAnon"))
            if self._stopped.wait(_SAMPLED_EVERY):
                return


def _limit_memory() -> None:
    """Let allocations fail before the machine has no memory left for others."""
    import resource  # noqa: PLC0415 - not there on Windows

    available = int(_find("MemAvailable", Path("/proc/meminfo")))
    limit = _status("VmData") + 1024 * available - _RESERVE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def _status(name: str) -> int:
    """Return a size that the kernel tells of this process, in bytes."""
    return 1024 * int(_find(name, Path("/proc/self/status")))


def _find(name: str, file: Path) -> str:
    if not file.is_file():
        raise NotMeasuredError("memory is read from /proc, which is there on Linux only")
    found = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise NotMeasuredError(f"{file} does not tell {name}")
    return found[1]
