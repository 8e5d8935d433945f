"""What a job may use is what its control group allows, not what the machine has."""

from __future__ import annotations

import os

import psutil
import pytest

from volseg import job_limits


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ("0::/slurm/job_7/step_0\n", {"slurm/job_7/memory.max": "3000000"}),
        ("0::/\n", {"memory.max": "3000000"}),
        ("4:cpu:/a\n3:memory:/a/b\n0::/\n", {"memory/a/b/memory.limit_in_bytes": "3000000"}),
        ("3:cpu,memory:/of/the/host\n", {"memory/memory.limit_in_bytes": "3000000"}),
        ("0::/a\n", {"a/memory.max": "max\n"}),
        ("1:cpu:/a\n", {"a/memory.max": "3000000"}),
        (None, {}),
    ],
)
def test_the_smallest_limit_of_its_groups_counts(tmp_path, monkeypatch, own, limits):
    groups, entry = tmp_path / "groups", tmp_path / "cgroup"
    if own is not None:
        entry.write_text(own)
    for name, text in limits.items():
        (groups / name).parent.mkdir(parents=True)
        (groups / name).write_text(text)
    (tmp_path / "memory.max").write_text("1")  # not of a group
    monkeypatch.setattr(job_limits, "_OWN_GROUPS", entry)
    monkeypatch.setattr(job_limits, "_GROUPS", groups)
    unlimited = own is None or "max\n" in limits.values() or own == "1:cpu:/a\n"
    total = psutil.virtual_memory().total
    assert job_limits.memory_of_job() == (total if unlimited else 3_000_000)


def test_processors_are_those_that_may_be_used():
    if hasattr(os, "sched_getaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            assert job_limits.usable_processors() == 1
        finally:
            os.sched_setaffinity(0, before)
