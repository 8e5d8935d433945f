"""DICOMweb servers that misbehave: one sentence, nothing half-written, few attempts."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom
import pytest

from volseg.errors import InputError, ServerError
from volseg.pacs import (
    Connection,
    Credentials,
    FoundSeries,
    Patience,
    SeriesQuery,
    Tls,
    fetch_series,
    find_series,
    open_server,
    parse_address,
    push_files,
)

FAST = Patience(attempts=3, pause=0.01)
JSON = "application/dicom+json"


def client(address, **options):
    return open_server(parse_address(address), Connection(**{"timeout": 5.0} | options))


def send(handler, body, kind, status=200):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Stored:
    """A server of one series that answers properly, unless a test says otherwise."""

    def __init__(self, paths):
        self.datasets = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in paths}
        first = pydicom.dcmread(paths[0])
        self.series = FoundSeries(str(first.StudyInstanceUID), str(first.SeriesInstanceUID))
        self.requests = []

    def __call__(self, handler):
        self.requests.append(handler.path)
        if "/instances?" in handler.path:
            offset = "offset=0" in handler.path
            rows = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.datasets]
            send(handler, json.dumps(rows if offset else []).encode(), JSON)
        else:
            self.answer(handler, self.datasets[handler.path.rpartition("/")[2]].read_bytes())

    def answer(self, handler, body):
        send(handler, multipart(body), 'multipart/related; type="application/dicom"; boundary=b')


def multipart(body, end=b"\r\n--b--\r\n"):
    return b"--b\r\nContent-Type: application/dicom\r\n\r\n" + body + end


@pytest.fixture
def stored(make_series):
    return Stored(make_series(3))


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_server_of_these_tests_is_read_when_it_behaves(http_server, stored, tmp_path):
    fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=FAST)
    assert names(tmp_path / "out") == sorted(f"{uid}.dcm" for uid in stored.datasets)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Welcome</html>", "text/html"),
        (b"[{", JSON),
        (b"7", JSON),
        (b'["x"]', JSON),
        (b'{"error": "no"}', JSON),
        (b'[{"0020000D": "x"}]', JSON),
        (b'[{"0020000D": {"vr": "UI", "Value": [{"a": 1}]}}]', JSON),
        (b"\xff\xfe\x00", JSON),
    ],
)
def test_garbage_for_a_search_is_one_sentence(http_server, body, kind):
    server = client(http_server(lambda handler: send(handler, body, kind)))
    with pytest.raises(ServerError) as raised:
        find_series(server, SeriesQuery(patient="1"))
    assert not raised.value.passing
    assert "127.0.0.1" in str(raised.value)


def test_a_server_cannot_send_this_side_to_another_one(http_server):
    asked = []
    other = http_server(lambda handler: asked.append(handler.path) or send(handler, b"[]", JSON))
    elsewhere = other.replace("dicomweb://", "http://")

    def redirect(handler):
        handler.send_response(307)
        handler.send_header("Location", f"{elsewhere}/studies")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with pytest.raises(ServerError, match="sends this side on to http://127.0.0.1"):
        find_series(client(http_server(redirect)), SeriesQuery(patient="1"))
    assert asked == []


def test_a_server_may_send_this_side_to_another_path_of_its_own(http_server):
    def redirect(handler):
        if handler.path.startswith("/moved"):
            send(handler, b"[]", JSON)
            return
        handler.send_response(307)
        handler.send_header("Location", "/moved/series")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    assert find_series(client(http_server(redirect)), SeriesQuery(patient="1")) == []


@pytest.mark.parametrize("name", ["../../escaped", "1.2/3", "/etc/x", "1.2\\3", "1." * 33, ".."])
def test_what_is_no_uid_names_no_file(http_server, stored, tmp_path, name, caplog):
    (path,) = list(stored.datasets.values())[:1]
    stored.datasets = {name: path}
    with pytest.raises(ServerError, match="SOP Instance UID .* expected digits and dots") as raised:
        fetch_series(client(http_server(stored)), stored.series, tmp_path / "a/b", patience=FAST)
    assert not raised.value.passing
    assert names(tmp_path) == [path.name for path in sorted(path.parent.iterdir())]

    def answer(handler):
        level, uid = ("0020000E", "1.4") if "/series?" in handler.path else ("0020000D", "1.3")
        rows = [{level: {"vr": "UI", "Value": [one]}} for one in (name, uid)]
        send(handler, json.dumps(rows).encode(), JSON)

    found = find_series(client(http_server(answer)), SeriesQuery())
    assert found == [FoundSeries("1.3", "1.4")]
    for level in ("Study", "Series"):
        assert f"with the {level} Instance UID" in caplog.text


@pytest.mark.parametrize("garbage", [b"", b"no DICOM at all", b"\x00" * 500])
def test_garbage_for_an_instance_is_one_sentence(http_server, stored, tmp_path, garbage):
    stored.answer = lambda handler, _: Stored.answer(stored, handler, garbage)
    with pytest.raises(ServerError, match="0 of 3 instances"):
        fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=FAST)
    assert names(tmp_path) == names(stored_folder(stored))


def stored_folder(stored):
    return next(iter(stored.datasets.values())).parent


def test_another_instance_than_asked_for_is_refused(http_server, stored, make_series, tmp_path):
    other = make_series(1)[0].read_bytes()
    stored.answer = lambda handler, _: Stored.answer(stored, handler, other)
    with pytest.raises(ServerError, match="was not asked for"):
        fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=FAST)
    assert not (tmp_path / "out").exists()


def cut_with_length(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b')
    handler.send_header("Content-Length", str(len(multipart(body))))
    handler.end_headers()
    handler.wfile.write(multipart(body)[:-100])
    handler.close_connection = True


def cut_without_length(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b')
    handler.end_headers()
    handler.wfile.write(multipart(body)[:-100])
    handler.close_connection = True


def cut_inside_the_multipart(handler, body):
    send(
        handler,
        multipart(body[:-100]),
        'multipart/related; type="application/dicom"; boundary=b',
    )


@pytest.mark.parametrize("cut", [cut_with_length, cut_without_length, cut_inside_the_multipart])
def test_an_answer_that_is_cut_off_is_never_taken_for_whole(
    http_server, stored, tmp_path, cut, caplog
):
    bad = list(stored.datasets)[1]

    def answer(handler, body):
        if handler.path.endswith(bad):
            cut(handler, body)
        else:
            Stored.answer(stored, handler, body)

    stored.answer = answer
    address = http_server(stored)
    with pytest.raises(ServerError, match="of 3 instances"):
        fetch_series(client(address), stored.series, tmp_path / "out", patience=FAST)
    first, _, last = (f"{uid}.dcm" for uid in stored.datasets)
    # What was on its way with it is kept, unless the instance itself is bad.
    kept = {first} if cut is cut_inside_the_multipart else {first, last}
    assert set(names(tmp_path / "out")) == kept
    del stored.answer
    fetch_series(client(address), stored.series, tmp_path / "out", patience=FAST)
    assert names(tmp_path / "out") == sorted(f"{uid}.dcm" for uid in stored.datasets)


def test_what_passes_is_tried_again_and_said(http_server, stored, tmp_path, caplog):
    failing = iter([503, 500])

    def answer(handler, body):
        status = next(failing, None)
        if status is None:
            Stored.answer(stored, handler, body)
        else:
            send(handler, b"busy", "text/plain", status)

    stored.answer = answer
    fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=FAST)
    assert len(names(tmp_path / "out")) == 3
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert "HTTP status 503" in said[0]
    assert said[0].endswith("Trying again in 0.01 s (2 of 3).")


@pytest.mark.parametrize(("status", "attempts"), [(500, 3), (503, 3), (400, 1), (404, 1)])
def test_attempts_are_few(http_server, stored, tmp_path, status, attempts):
    stored.answer = lambda handler, _: send(handler, b"no", "text/plain", status)
    with pytest.raises(ServerError, match=f"HTTP status {status}"):
        fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=FAST)
    assert len([path for path in stored.requests if "/instances/" in path]) == attempts


def test_connections_that_break_now_and_then_do_not_end_a_transfer(
    http_server, make_series, tmp_path
):
    """More breaks than attempts, but each after another instance came through."""
    stored = Stored(make_series(6))
    breaking = set(list(stored.datasets)[1::2])

    def answer(handler, body):
        uid = handler.path.rpartition("/")[2]
        if uid in breaking:
            breaking.remove(uid)
            handler.connection.close()
        else:
            Stored.answer(stored, handler, body)

    stored.answer = answer
    patience = Patience(attempts=2, pause=0.01)
    fetch_series(client(http_server(stored)), stored.series, tmp_path / "out", patience=patience)
    assert len(names(tmp_path / "out")) == 6


def test_a_silent_server_is_given_up(http_server):
    def silent(handler):
        time.sleep(1.0)

    server = client(http_server(silent), timeout=0.2)
    with pytest.raises(ServerError, match=r"did not answer the search within 0\.2 s") as raised:
        server.echo()
    assert raised.value.passing


def test_no_server_is_one_sentence():
    with pytest.raises(ServerError, match=r"connection to dicomweb://127\.0\.0\.1:1/root failed"):
        client("dicomweb://127.0.0.1:1/root").echo()


def test_a_token_is_sent_and_a_wrong_one_is_not_repeated(http_server, caplog):
    seen = []

    def guarded(handler):
        seen.append(handler.headers["Authorization"])
        if seen[-1] == "Bearer right-token":
            send(handler, b"[]", JSON)
        else:
            send(handler, b"", "text/plain", 401)

    address = http_server(guarded)
    client(address, credentials=Credentials(token="right-token")).echo()
    with caplog.at_level("DEBUG"), pytest.raises(ServerError, match="401.*--token") as raised:
        client(address, credentials=Credentials(token="wrong-token")).echo()
    assert "wrong-token" not in str(raised.value)
    assert "wrong-token" not in caplog.text
    assert "wrong-token" not in repr(Credentials(token="wrong-token"))
    with pytest.raises(ServerError, match="401"):
        client(address).echo()
    assert seen == ["Bearer right-token", "Bearer wrong-token", None]


def test_basic_authentication_is_utf8(http_server):
    seen = []

    def guarded(handler):
        seen.append(handler.headers["Authorization"])
        send(handler, b"[]", JSON)

    client(http_server(guarded), credentials=Credentials(user="ö", password="ß:")).echo()
    assert base64.b64decode(seen[0].removeprefix("Basic ")).decode() == "ö:ß:"


def test_netrc_is_not_read(http_server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen = []

    def open_to_all(handler):
        seen.append(handler.headers["Authorization"])
        send(handler, b"[]", JSON)

    client(http_server(open_to_all)).echo()
    assert seen == [None]


def test_refused_files_are_named(http_server, make_series):
    paths = make_series(2)
    second = str(pydicom.dcmread(paths[1]).SOPInstanceUID)

    def answer(handler):
        if handler.command == "GET":
            send(handler, b"[]", JSON)
            return
        uid = str(pydicom.dcmread(paths[len(stored)]).SOPInstanceUID)
        item = {
            "00081155": {"vr": "UI", "Value": [uid]},
            "00081197": {"vr": "US", "Value": [0xA700]},
        }
        stored.append(uid)
        failed = uid == second
        body = {"00081198" if failed else "00081199": {"vr": "SQ", "Value": [item]}}
        send(handler, json.dumps(body).encode(), JSON, 409 if failed else 200)

    stored = []
    with pytest.raises(ServerError, match=rf"refused 1 of 2 .*{paths[1]}: failure reason 0xa700"):
        push_files(client(http_server(answer)), paths, patience=FAST)


def test_a_push_that_breaks_off_goes_on(http_server, make_series):
    paths = make_series(4)
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    stored, posts = [], []

    def answer(handler):
        if handler.command == "GET":
            rows = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in stored]
            send(handler, json.dumps(rows if "offset=0" in handler.path else []).encode(), JSON)
            return
        posts.append(uids[len(stored)])
        if len(posts) in (2, 4):  # each time after another one was taken
            handler.connection.close()
            return
        stored.append(posts[-1])
        item = {"00081155": {"vr": "UI", "Value": [posts[-1]]}}
        send(handler, json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode(), JSON)

    address = http_server(answer)
    pushed = push_files(client(address), paths, patience=Patience(attempts=2, pause=0.01))
    assert stored == [instance.uid for instance in pushed.sent] == uids
    assert posts == [uids[0], uids[1], uids[1], uids[2], uids[2], uids[3]]
    again = push_files(client(address), paths)
    assert (again.sent, len(again.already_there)) == ((), 4)


def test_a_store_that_is_not_confirmed_is_not_believed(http_server, make_series):
    server = client(http_server(lambda handler: send(handler, b"[]", JSON)))
    with pytest.raises(ServerError, match="It has 0 of 1"):
        push_files(server, make_series(1), patience=FAST)


def test_tls_is_verified(certificate, tmp_path, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            send(self, b"[]", JSON)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        address = f"dicomwebs://127.0.0.1:{httpd.server_port}/root"
        with pytest.raises(ServerError, match=r"TLS certificate cannot be verified.*--ca-file"):
            client(address).echo()
        # The environment does not make it trusted, either.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
        with pytest.raises(ServerError, match="TLS certificate"):
            client(address).echo()
        client(address, tls=Tls(str(certificate / "cert.pem"))).echo()
    finally:
        httpd.shutdown()
        httpd.server_close()
    with pytest.raises(InputError, match="--ca-file: cannot read"):
        Tls(str(tmp_path / "none.pem"))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(InputError, match="holds no certificates"):
        Tls(str(tmp_path / "empty.pem"))
