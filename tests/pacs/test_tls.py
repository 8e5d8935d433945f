"""DIMSE over TLS with a real Orthanc, and DICOMweb with a server, that ask for a certificate."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest

from volseg.errors import InputError, ServerError
from volseg.pacs import (
    Connection,
    Patience,
    SeriesQuery,
    Server,
    Tls,
    fetch_series,
    find_one_series,
    open_server,
    parse_address,
    push_files,
)

pytestmark = pytest.mark.usefixtures("_collected")
FAST = Patience(attempts=2, pause=0.01)


@pytest.fixture
def ours(certificate: Path) -> Tls:
    cert, key = (str(certificate / name) for name in ("cert.pem", "key.pem"))
    return Tls(cert, cert, key)


@pytest.fixture
def web(certificate: Path) -> Iterator[str]:
    """The address of a DICOMweb server that finds nothing, for who has the certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Be quiet about handshakes that fail."""

    httpd = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    httpd.socket = context.wrap_socket(
        httpd.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield f"dicomwebs://127.0.0.1:{httpd.server_port}/root"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(params=["dicomweb", "dimse"])
def address(request: pytest.FixtureRequest) -> str:
    """A server of each protocol."""
    if request.param == "dicomweb":
        return request.getfixturevalue("web")
    return request.getfixturevalue("encrypted").dimse


def connected(address: str, tls: Tls, **options: Any) -> Server:
    return open_server(parse_address(address), Connection(tls=tls, **options))


@pytest.mark.parametrize("way", ["get", "move"])
def test_a_series_goes_there_and_comes_back(encrypted, ours, make_series, tmp_path, way):
    listen = f"127.0.0.1:{encrypted.move_port}" if way == "move" else None
    server = connected(encrypted.dimse, ours, listen=listen)
    paths = make_series(6)
    series = push_files(server, paths).sent[0].series
    found = find_one_series(server, SeriesQuery(series=series))
    fetched = fetch_series(server, found, tmp_path / "out", patience=FAST)
    for path, back in zip(paths, sorted(fetched, key=number_of), strict=True):
        assert pydicom.dcmread(back) == pydicom.dcmread(path)


def number_of(path: Path) -> int:
    return int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)


def test_who_has_the_certificate_is_let_in(address, ours):
    connected(address, ours).echo()


def test_a_server_that_is_not_trusted_is_not_talked_to(address, ours):
    server = connected(address, replace(ours, ca_file=None))
    with pytest.raises(ServerError, match=r"cannot be verified \(.*--ca-file") as raised:
        server.echo()
    assert not raised.value.passing


def test_a_name_that_is_not_the_certificate_s_is_not_trusted(address, ours):
    server = connected(address.replace("127.0.0.1", "127.0.0.2"), ours)
    with pytest.raises(ServerError, match="127.0.0.2"):
        server.echo()


def test_who_has_no_certificate_is_not_let_in(address, ours):
    server = connected(address, Tls(ours.ca_file))
    with pytest.raises(ServerError, match="--client-cert") as raised:
        server.echo()
    assert not raised.value.passing


def test_a_server_without_tls_is_one_sentence(orthanc, ours):
    server = connected(orthanc.dimse.replace("dimse:", "dimses:"), ours, timeout=3)
    with pytest.raises(ServerError, match="127.0.0.1"):
        server.echo()


def test_certificates_that_cannot_be_used_are_one_sentence(ours, tmp_path):
    cert, key = ours.certificate, ours.private_key
    with pytest.raises(InputError, match="--client-cert, too"):
        Tls(private_key=key)
    with pytest.raises(InputError, match="--client-key: cannot read"):
        Tls(certificate=cert, private_key=str(tmp_path / "none.pem"))
    with pytest.raises(InputError, match="its key cannot be used"):
        Tls(certificate=cert)
    (tmp_path / "bad.pem").write_text(ssl.DER_cert_to_PEM_cert(b"nothing"))
    with pytest.raises(InputError, match="its key cannot be used"):
        Tls(certificate=str(tmp_path / "bad.pem"), private_key=key)
    for address in ("dicomweb://h/r", "dimse://A@h"):
        with pytest.raises(InputError, match="which are encrypted"):
            connected(address, ours)
    with pytest.raises(InputError, match="--listen"):
        connected("dimses://A@h", Tls(cert), listen="104")


def test_who_may_send_here_is_known_by_the_system_if_no_file_says_so(ours, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ours.ca_file)
    for tls in (ours, replace(ours, ca_file=None)):
        context = tls.server_context()
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.cert_store_stats()["x509"] == 1
