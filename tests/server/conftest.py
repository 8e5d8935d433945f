"""Servers as users run them, in processes of their own, spoken to over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from tests.server.waiting import ended

_START_SECONDS = 120


@dataclass
class Running:
    """A server in a process of its own."""

    address: str
    process: subprocess.Popen[str]
    client: httpx.Client

    def submit(self, image: Path, bundle: str = "tiny_bundle", **options: Any) -> str:
        """Submit an image; returns the identifier of the job."""
        answer = self.client.post(
            "/v1/jobs",
            data={"bundle": bundle, "options": json.dumps(options)},
            files={"image": (image.name, image.read_bytes())},
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def ended(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job and return what it is then."""
        return ended(self.client, job)

    def result(self, job: str, **query: str) -> bytes:
        """Wait for a job and return its result."""
        status = self.ended(job)
        assert status["state"] == "done", status
        answer = self.client.get(f"/v1/jobs/{job}/result", params=query)
        assert answer.status_code == 200, answer.text
        return answer.content

    def worker(self) -> psutil.Process:
        """The process that computes; there is one once a job was submitted."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children():
                if "volseg.server.worker" in child.cmdline():
                    return child
            time.sleep(0.05)
        pytest.fail("the server has started no process that computes")


@contextlib.contextmanager
def run_server(*options: object, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Run ``volseg serve`` on a free port until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "volseg", "serve", "--port", "0", *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {}), "COLUMNS": "500"},
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if line.startswith("serving at "):
                break
        else:
            pytest.fail(f"the server did not start: {''.join(lines)}")
        # What it logs is read on, so that the pipe never fills.
        threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
        address = line.removeprefix("serving at ").strip()
        with httpx.Client(base_url=address, timeout=60, verify=False) as client:
            yield Running(address, process, client)
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


@pytest.fixture(scope="session")
def tiny(_tiny_bundle: Path) -> Path:
    """The tiny bundle that all tests share; none may write to it."""
    return _tiny_bundle


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `server` keeps its files in."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(tiny: Path, _two_channel_bundle: Path, server_folder: Path) -> Iterator[Running]:
    """A server with the tiny bundles and a shipped one."""
    bundles = [
        word for one in (tiny, _two_channel_bundle, "hippocampus_unet") for word in ("-b", one)
    ]
    with run_server(*bundles, "--folder", server_folder) as running:
        yield running


@pytest.fixture
def image(tiny: Path) -> Path:
    """A small image that the tiny bundle takes."""
    return tiny.parent / "data" / "images" / "ball0.nii.gz"


@pytest.fixture
def serve_here(tiny: Path, tmp_path: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Serve from a thread with any settings, over real HTTP; no job need be computed there."""
    from volseg.server import ServerSettings, create_app
    from volseg.server.serving import configuration

    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def start(**settings: Any) -> httpx.Client:
        given = {"folder": tmp_path / "served", "bundles": (str(tiny),), **settings}
        served = ServerSettings(**given)
        config = configuration(create_app(served, ["cpu"]), served)
        config.port = 0
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        running.append((server, thread, client))
        return client

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(30)
