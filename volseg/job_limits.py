"""The processors and the memory that this job may use, which may be less than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Return how many processors this process may use.

    Containers limit the time of a job by its control group: two processors' time is two processors,
    on however many it may be spent.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min([allowed, *_processors_of_groups()])


def memory_of_job() -> int:
    """Return how many bytes of memory this process may use with those beside it in its job.

    Containers and SLURM limit the memory of a job by its control group (of either version).
    """
    return min([int(psutil.virtual_memory().total), *_memory_of_groups()])


def _processors_of_groups() -> Iterator[int]:
    for folder in _groups("cpu"):
        # The microseconds of all processors together in each period, and those of a period.
        time = _numbers(folder / "cpu.max")
        for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):  # of version 1
            time += _numbers(folder / name)
        if len(time) == 2 and time[0] > 0:  # version 1 calls no limit -1
            yield math.ceil(time[0] / time[1])


def _memory_of_groups() -> Iterator[int]:
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of version 2, and of version 1
            yield from _numbers(folder / name)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the groups that this process is in, which lie in each other, of one controller."""
    try:
        entries = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for entry in entries:
        _, controllers, place = entry.split(":", 2)
        if controllers == "":  # version 2, which has all of them in one place
            root = _GROUPS
        elif controller in controllers.split(","):
            root = _GROUPS / controller
        else:
            continue
        group = root / place.lstrip("/")
        # In a container the outer groups, and even its own name, are out of sight.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield folder


def _numbers(path: Path) -> list[int]:
    try:
        return [int(word) for word in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):  # there is none, or it is called max
        return []
