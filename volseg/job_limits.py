"""The processors and the memory that this job may use, which may be less than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory_of_job() -> int:
    """Return how many bytes of memory this process may use with those beside it in its job.

    Containers and SLURM limit the memory of a job by its control group (of either version).
    """
    return min([int(psutil.virtual_memory().total), *_group_limits()])


def _group_limits() -> Iterator[int]:
    """Yield the limits of the groups that this process is in, which lie in each other."""
    try:
        entries = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for entry in entries:
        _, controllers, place = entry.split(":", 2)
        if controllers == "":
            root, name = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / place.lstrip("/")
        # In a container the outer groups, and even its own name, are out of sight.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _limit(folder / name)


def _limit(path: Path) -> Iterator[int]:
    try:
        yield int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is called max
        return
