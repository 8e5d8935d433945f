"""What a job may use is what its control group allows, not what the machine has."""

from __future__ import annotations

import os

import psutil
import pytest

from volseg import job_limits


@pytest.fixture
def in_groups(tmp_path, monkeypatch):
    """Return what puts this process into control groups, with the files of their limits."""

    def put(own, limits):
        groups, entry = tmp_path / "groups", tmp_path / "cgroup"
        if own is not None:
            entry.write_text(own)
        for name, text in limits.items():
            (groups / name).parent.mkdir(parents=True, exist_ok=True)
            (groups / name).write_text(text)
        for name, text in (("memory.max", "1"), ("cpu.max", "1 1")):  # not of a group
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(job_limits, "_OWN_GROUPS", entry)
        monkeypatch.setattr(job_limits, "_GROUPS", groups)

    return put


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
def test_the_smallest_limit_of_its_groups_counts(in_groups, own, limits):
    in_groups(own, limits)
    unlimited = own is None or "max\n" in limits.values() or own == "1:cpu:/a\n"
    total = psutil.virtual_memory().total
    assert job_limits.memory_of_job() == (total if unlimited else 3_000_000)


@pytest.mark.parametrize(
    ("own", "limits", "processors"),
    [
        ("0::/pod/container\n", {"pod/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "25000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        (
            "4:cpu,cpuacct:/of/the/host\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("3:memory:/a\n", {"a/cpu.max": "100000 100000\n"}, 8),
        (None, {}, 8),
    ],
)
def test_time_of_two_processors_is_two_processors(in_groups, monkeypatch, own, limits, processors):
    in_groups(own, limits)
    eight = lambda _process: set(range(8))  # noqa: E731
    monkeypatch.setattr(os, "sched_getaffinity", eight, raising=False)
    assert job_limits.usable_processors() == processors


def test_processors_are_those_that_may_be_used():
    if hasattr(os, "sched_getaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            assert job_limits.usable_processors() == 1
        finally:
            os.sched_setaffinity(0, before)
