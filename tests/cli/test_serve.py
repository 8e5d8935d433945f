"""``volseg serve`` as it is started: over TLS, with its token in a file, and what it refuses."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys

import httpx
import pytest
from filelock import FileLock

import volseg.server
from volseg.cli.main import main
from volseg.pacs import Connection, Credentials, Tls

_TOKEN = "geheim"


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    files = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-keyout", files[0], "-out", files[1], "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    return files


def test_it_serves_over_tls_to_who_has_the_token(tiny_bundle, certificate, tmp_path):
    key, pem = certificate
    (tmp_path / "token").write_text(f"{_TOKEN}\n")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "volseg", "serve", "--bundle", tiny_bundle),
            *("--host", "0.0.0.0", "--port", "0", "--folder", tmp_path / "kept"),
            *("--token", f"file:{tmp_path / 'token'}", "--certificate", pem, "--key", key),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        assert line.startswith("serving at https://0.0.0.0:"), line
        address = line.split()[-1].replace("0.0.0.0", "127.0.0.1")
        context = ssl.create_default_context(cafile=pem)
        with httpx.Client(base_url=address, verify=context, timeout=30) as client:
            assert client.get("/v1/health").status_code == 401
            wrong = {"Authorization": "Bearer wrong"}
            assert client.get("/v1/bundles", headers=wrong).status_code == 401
            right = {"Authorization": f"Bearer {_TOKEN}"}
            (bundle,) = client.get("/v1/bundles", headers=right).json()
            assert bundle["name"] == "tiny_bundle"
            assert client.get("/").status_code == 200  # the page, which asks for the token
        assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert _TOKEN not in errors


def refused(capfd, *options: object) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", *map(str, options)])
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_what_cannot_be_served_is_refused_with_a_sentence(capfd, tmp_path, tiny_bundle):
    folder = tmp_path / "kept"
    given = ["--bundle", tiny_bundle, "--folder", folder]
    assert "--token" in refused(capfd, *given, "--host", "0.0.0.0")
    assert "never the secret itself" in refused(capfd, *given, "--token", "hunter2")
    assert "certificate and its key" in refused(capfd, *given, "--certificate", tmp_path / "a")
    assert "did you mean" in refused(capfd, "--bundle", "hipocampus_unet", "--folder", folder)
    others = ["--bundle", tiny_bundle, "--folder", tiny_bundle]
    assert "is not the folder of a server" in refused(capfd, *others)
    (tmp_path / "scan").write_bytes(b"x")
    no_folder = [*given, "--port", 0, "--datastore", tmp_path / "scan"]
    assert f"cannot write {tmp_path / 'scan'}" in refused(capfd, *no_folder)
    assert "is not there" in refused(capfd, *given, "--port", 0, "--device", "cuda:77")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert "--port" in refused(capfd, *given, "--port", taken.getsockname()[1])
    with FileLock(folder / "server.lock"):
        assert "another server uses" in refused(capfd, *given)


def test_options_say_how_other_servers_are_reached(monkeypatch, certificate, tmp_path):
    key, pem = certificate
    (tmp_path / "token").write_text(_TOKEN)
    served = []
    monkeypatch.setattr(volseg.server, "serve", lambda settings, _: served.append(settings))
    words = ["serve", "--bundle", "any", "--folder", tmp_path, "--timeout", 5, "--aet", "HERE"]
    words += ["--ca-file", pem, "--client-cert", pem, "--client-key", key]
    words += ["--allow-pacs", "dimses://PACS@host", "--pacs-token", f"file:{tmp_path / 'token'}"]
    with pytest.raises(SystemExit, match="0"):
        main(list(map(str, words)))
    assert served[0].token is None
    assert served[0].connection == Connection(
        credentials=Credentials(token=_TOKEN),
        tls=Tls(str(pem), str(pem), str(key)),
        timeout=5.0,
        ae_title="HERE",
    )
