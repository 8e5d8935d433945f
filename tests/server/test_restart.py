"""A server that is killed begins again where it was."""

from __future__ import annotations

import json
import signal
import time

import httpx
import psutil

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
    ended = [_ended(client, job) for job in (first, *others)]
    assert [status["state"] for status in ended] == ["done"] * 3
    results = {client.get(f"/v1/jobs/{job}/result").content for job in (first, *others)}
    assert len(results) == 1


def test_a_job_that_brings_the_server_down_is_not_tried_for_ever(tiny, tmp_path, serve_here):
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
    assert not damaged.exists()


def _ended(client: httpx.Client, job: str) -> dict[str, object]:
    deadline = time.monotonic() + 120
    status = client.get(f"/v1/jobs/{job}").json()
    while status["state"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        status = client.get(f"/v1/jobs/{job}").json()
    return status
