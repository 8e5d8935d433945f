"""volseg on a server: a real one, spoken to as the module does."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from in_slicer import result_of
from VolSegLib.errors import VolSegError
from VolSegLib.remote import VolSegServer
from VolSegLib.steps import Progress
from VolSegLib.workflow import segment_volumes

from volseg import Segmenter
from volseg.io import as_image

TOKEN = "of the tests"


@pytest.fixture(scope="module")
def address(_two_channel_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token; it computes in a process of its own."""
    command = [sys.executable, "-m", "volseg", "serve", "--port", "0", "--token", "env:THE_TOKEN"]
    command += [
        "--bundle",
        str(_two_channel_bundle),
        "--folder",
        str(tmp_path_factory.mktemp("server")),
    ]
    environment = {**os.environ, "THE_TOKEN": TOKEN, "COLUMNS": "500"}
    with subprocess.Popen(
        [*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr:
            if line.startswith("serving at "):
                break
        else:
            pytest.fail("the server did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.removeprefix("serving at ").strip()
        process.terminate()


@pytest.fixture
def server(address) -> VolSegServer:
    return VolSegServer(address, TOKEN)


def jobs_at(address: str) -> list[dict]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(f"{address}/v1/jobs", headers=headers).json()


def wait_until_empty(address: str) -> None:
    end = time.monotonic() + 30
    while jobs := jobs_at(address):
        assert time.monotonic() < end, jobs
        time.sleep(0.05)


def test_volumes_go_to_the_server_and_come_back_as_segments(
    server, address, add_volume, two_channel_bundle
):
    import slicer

    matrix = np.diag([-1.0, 0.9, 1.2, 1.0])
    rng = np.random.default_rng(0)
    voxels = {c: rng.normal(100, 10, (16, 18, 20)).astype(np.float32) for c in ("t1", "flair")}
    volumes = {channel: add_volume(array, matrix, channel) for channel, array in voxels.items()}
    (bundle,) = result_of(server.bundles())
    assert bundle.channels == ("t1", "flair")
    assert [kind.name for kind in bundle.segments] == ["anterior", "posterior"]
    heard: list[Progress] = []
    node = result_of(segment_volumes(server, bundle, volumes), heard)
    found = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "anterior")
    images = {channel: as_image(array.T, matrix) for channel, array in voxels.items()}
    expected = Segmenter(two_channel_bundle, device="cpu").segment(images)
    np.testing.assert_array_equal(found, expected.numpy()[0].T)
    stages = list(dict.fromkeys(progress.stage for progress in heard))
    assert (stages[0], stages[-1]) == ("saving", "receiving")
    wait_until_empty(address)  # neither the scans nor the result stay there


def test_what_the_server_says_is_what_the_user_reads(server, address, tmp_path):
    (bundle,) = result_of(server.bundles())
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_bytes(b"NRRD0004\n# no more than this\n")
    with pytest.raises(VolSegError, match="the uploaded NRRD"):
        result_of(server.segment(bundle, dict.fromkeys(bundle.channels, damaged), tmp_path, {}))
    wait_until_empty(address)


def test_a_job_that_is_cancelled_does_not_stay(server, address, tmp_path, two_channel_bundle):
    (bundle,) = result_of(server.bundles())
    folder = two_channel_bundle.parent / "data" / "images"
    images = {channel: folder / channel / "ball0.nii.gz" for channel in bundle.channels}
    steps = server.segment(bundle, images, tmp_path, {})
    stage = ""
    while stage not in ("waiting", "segmenting"):
        progress = next(steps)
        stage = progress.stage if progress else stage
    assert len(jobs_at(address)) == 1
    steps.close()
    wait_until_empty(address)


def test_an_upload_that_is_cancelled_leaves_no_job(server, address, tmp_path):
    (bundle,) = result_of(server.bundles())
    large = tmp_path / "large.nrrd"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    before = {thread.ident for thread in threading.enumerate()}
    steps = server.segment(bundle, {"MR": large}, tmp_path, {})
    while (progress := next(steps)) is None or progress.done == 0:
        pass
    assert progress.total > 64 << 20
    steps.close()
    for thread in threading.enumerate():
        if thread.ident not in before:
            thread.join(30)
    wait_until_empty(address)


def test_a_token_that_is_wrong_is_a_sentence(address):
    for token in ("", "wrong"):
        with pytest.raises(VolSegError, match="asks for a token"):
            result_of(VolSegServer(address, token).bundles())


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://localhost", "http://"])
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(VolSegError, match="is not the address of a server"):
        VolSegServer(address)


def test_a_server_that_is_not_there_is_a_sentence():
    with pytest.raises(VolSegError, match=r"http://127\.0\.0\.1:9 cannot be reached: .*refused"):
        result_of(VolSegServer("http://127.0.0.1:9/").bundles())


def test_a_connection_that_never_came_about_is_a_sentence():
    """As where a firewall resets what is encrypted."""

    def reset() -> None:
        connection, _ = listener.accept()
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset)
        thread.start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(VolSegError, match="cannot be reached: .*reset"):
            result_of(VolSegServer(address).bundles())
        thread.join()


@contextlib.contextmanager
def another_server(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that always answers the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that `http.server` looks for

        def log_message(self, *_) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, b"<html>", "answers something else: is it volseg?"),
        (200, b'{"a": 1}', "the list of bundles cannot be understood"),
        (503, b'{"detail": "the queue is full."}', "the queue is full."),
        (500, b"oops", "refuses: 500"),
    ],
)
def test_other_answers_are_sentences(status, body, sentence):
    with another_server(status, {}, body) as address, pytest.raises(VolSegError) as raised:
        result_of(VolSegServer(address).bundles())
    assert sentence in str(raised.value)


def test_a_refusal_in_the_middle_of_an_upload_is_read(tmp_path):
    """By a server that cuts the connection off with it."""
    image = tmp_path / "large.nii"
    image.write_bytes(bytes(32 << 20))
    bundle = types.SimpleNamespace(reference="a_bundle")
    headers = {"Connection": "close"}
    with another_server(503, headers, b'{"detail": "the disk is full."}') as address:
        steps = VolSegServer(address).segment(bundle, {"image": image}, tmp_path, {})
        with pytest.raises(VolSegError, match="the disk is full"):
            result_of(steps)


def test_a_token_is_not_carried_elsewhere(address):
    """A redirection, even to a server that would take the token, is refused."""
    away = {"Location": f"{address}/v1/bundles"}
    with another_server(302, away, b"") as other, pytest.raises(VolSegError, match="refuses: 302"):
        result_of(VolSegServer(other, TOKEN).bundles())
