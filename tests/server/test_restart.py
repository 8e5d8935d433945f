"""A server that is killed begins again where it was."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil

from tests.server.waiting import ended
from volseg.server.jobs import JobFolder, new_job
from volseg.server.models import JobOptions
from volseg.server.own_folder import claim_folder

from .conftest import run_server


def test_a_killed_server_goes_on_with_its_queue(tiny, image, tmp_path, serve_here):
    folder = tmp_path / "served"
    with run_server("--bundle", tiny, "--folder", folder) as server:
        first = server.submit(image)
        worker = server.worker()
        worker.suspend()
        others = [server.submit(image) for _ in range(2)]
        done = server.submit(image)
        server.client.delete(f"/v1/jobs/{done}")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
        worker.resume()
        _, alive = psutil.wait_procs([worker], 30)
        assert not alive, "what computed outlived its server"
    (folder / "jobs" / "incoming" / ("c" * 32)).mkdir(parents=True)
    client = serve_here()
    assert not list((folder / "jobs" / "incoming").iterdir())
    assert client.get(f"/v1/jobs/{done}").json()["state"] == "cancelled"
    states = [ended(client, job)["state"] for job in (first, *others)]
    assert states == ["done"] * 3
    results = {client.get(f"/v1/jobs/{job}/result").content for job in (first, *others)}
    assert len(results) == 1


def test_a_job_that_brings_the_server_down_is_not_tried_for_ever(tmp_path, serve_here, caplog):
    claim_folder(tmp_path / "served")
    folder = tmp_path / "served" / "jobs" / ("a" * 32)
    (folder / "input").mkdir(parents=True)
    job = {
        "id": folder.name,
        "bundle": "tiny_bundle",
        "options": {},
        "inputs": {"image": "input/image0.nii"},
        "state": "running",
        "attempts": 3,
        "created": time.time(),
    }
    (folder / "job.json").write_text(json.dumps(job))
    damaged = folder.with_name("b" * 32)
    damaged.mkdir()
    (damaged / "job.json").write_text("{")
    client = serve_here()
    (status,) = client.get("/v1/jobs").json()
    assert status["state"] == "failed"
    assert "3 times" in status["error"]
    assert (damaged / "job.json").read_text() == "{"  # nothing that was accepted is thrown away
    with caplog.at_level("ERROR"):
        JobFolder(folder.parent).load()
    assert f"{damaged} cannot be read (ValidationError)" in caplog.text


def test_a_job_is_on_the_disk_before_it_is_taken(tmp_path, monkeypatch):
    """A power cut may empty what was written, but not forced there."""
    folder = JobFolder(tmp_path / "jobs")
    flushed = []
    monkeypatch.setattr(
        os, "fsync", lambda one: flushed.append(Path(f"/proc/self/fd/{one}").readlink())
    )
    with folder.incoming() as received:
        (received / "input").mkdir()
        (received / "input" / "image0.nii").write_bytes(b"voxels")
        job = new_job("tiny_bundle", JobOptions())
        folder.take(received, job)
    assert sorted(flushed) == [received / "input" / "image0.nii", received / "job.json"]
    assert folder.load() == [job]
    folder.remove(job)
    assert folder.load() == []
    assert not list((tmp_path / "jobs" / "incoming").iterdir())
