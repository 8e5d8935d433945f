"""Clients that mean harm, or are slow: refused, and nothing of theirs stays."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time

import pytest

from volseg.errors import InputError, OutputError
from volseg.server import Limits, ServerSettings, receiving, serve, service
from volseg.server import jobs as jobs_module
from volseg.server.catalogue import Catalogue
from volseg.server.datastore import Datastore
from volseg.server.jobs import JobFolder, new_job
from volseg.server.models import JobOptions
from volseg.server.own_folder import claim_folder


def raw(client, text, seconds=10.0):
    """Send bytes as they are, and return what comes until the server closes or falls silent."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 10) as connection:
        connection.sendall(text)
        connection.settimeout(seconds)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except TimeoutError:
            pytest.fail(f"the server waits on: {received!r}")
    return received


def post(*headers, body=b""):
    lines = ["POST /v1/jobs HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_pages_of_other_origins_may_not_ask(serve_here):
    client = serve_here(origins=("https://viewer.example",))
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        answer = client.get("/v1/health", headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert client.get("/v1/health", headers={"Origin": str(client.base_url)}).status_code == 200
    allowed = client.get("/v1/health", headers={"Origin": "https://viewer.example"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://viewer.example"


def test_a_local_server_answers_under_local_names_only(serve_here):
    """A page whose name was made to mean 127.0.0.1 is not let in."""
    client = serve_here()
    for host, status in (
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
    ):
        assert client.get("/v1/health", headers={"Host": host}).status_code == status, host


def test_nothing_but_forms_may_be_large(serve_here):
    client = serve_here(token="secret")
    large = b"username=" + bytes(2 << 20)
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/auth/token", content=large, headers=head).status_code == 413
    large = b'{"a": "' + b"a" * (2 << 20) + b'"}'
    head = {"Authorization": "Bearer secret"}
    assert client.post("/activelearning/first", content=large, headers=head).status_code == 413
    form = {"file": bytes(2 << 20)}
    assert client.post("/auth/token", files=form).status_code == 413


def test_who_is_not_let_in_uploads_nothing(serve_here):
    client = serve_here(token="secret")
    head = ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000000"]
    # It is refused before the body, which never comes.
    assert b" 401 " in raw(client, post(*head, "Connection: close"))[:20]


@pytest.mark.parametrize(
    ("limits", "status"),
    [(Limits(upload_bytes=1 << 20), b"413"), (Limits(disk_bytes=1000), b"503")],
)
@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
def test_who_is_refused_early_sees_why(serve_here, limits, status, header):
    """Also one that sends everything before it reads anything."""
    client = serve_here(limits=limits)
    body = bytes(32 << 20)
    head = ["Content-Type: multipart/form-data; boundary=x", f"Content-Length: {len(body)}", header]
    answer = raw(client, post(*head, body=body))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b'."}')


def test_silent_clients_are_not_waited_for(serve_here, tmp_path):
    client = serve_here(limits=Limits(silent_seconds=1))
    form = ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000"]
    began = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc'
    assert b" 408 " in raw(client, post(*form, body=began))[:20]
    assert not list((tmp_path / "served" / "jobs" / "incoming").iterdir())
    # In the middle of a header, or before it.
    assert raw(client, b"GET /v1/health HTTP/1.1\r\nHost: loc") == b""
    assert raw(client, b"") == b""
    assert client.get("/v1/health").status_code == 200


def test_a_client_that_breaks_off_leaves_nothing(serve_here, tmp_path):
    client = serve_here()
    form = ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000"]
    with socket.create_connection((client.base_url.host, client.base_url.port), 10) as connection:
        connection.sendall(post(*form, body=b"--x\r\nContent-Disposition: form-data; name="))
        time.sleep(0.2)
    incoming = tmp_path / "served" / "jobs" / "incoming"
    deadline = time.monotonic() + 10
    while list(incoming.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(incoming.iterdir())
    assert client.get("/v1/jobs").json() == []


def test_a_full_queue_and_a_full_disk_say_so(serve_here, image):
    form = {"data": {"bundle": "tiny_bundle"}, "files": {"image": image.read_bytes()}}
    full = serve_here(limits=Limits(disk_bytes=1000)).post("/v1/jobs", **form)
    assert full.status_code == 503
    assert "disk" in full.json()["detail"]
    assert int(full.headers["retry-after"]) > 0


def test_an_upload_for_which_there_is_no_room_is_no_fault(serve_here, image, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "Doe.nii")

    client = serve_here()
    form = {"data": {"bundle": "tiny_bundle"}, "files": {"image": image.read_bytes()}}
    places = ((receiving.MultipartParser, "write"), (jobs_module, "flush_folder"))
    for place, name in places:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            answer = client.post("/v1/jobs", **form)
        assert answer.status_code == 507
        assert answer.json()["detail"] == "the server cannot keep it: its disk may be full."


def test_a_full_disk_fails_no_job_that_waits(serve_here, image, monkeypatch):
    tries = []

    def full(_, job):
        tries.append(job.id)
        raise OutputError("cannot write.") from OSError(errno.ENOSPC, "No space left on device")

    client = serve_here()
    monkeypatch.setattr(service, "_SECONDS_UNTIL_ROOM", 0.01)
    form = {"data": {"bundle": "tiny_bundle"}, "files": {"image": image.read_bytes()}}
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "save", full)
        first, second = (client.post("/v1/jobs", **form).json()["id"] for _ in range(2))
        deadline = time.monotonic() + 10
        while len(tries) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert set(tries) == {first}
        assert [job["state"] for job in client.get("/v1/jobs").json()] == ["queued", "queued"]
        client.delete(f"/v1/jobs/{second}")
    while client.get(f"/v1/jobs/{first}").json()["state"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    states = [job["state"] for job in client.get("/v1/jobs").json()]
    assert states == ["running", "cancelled"]


def test_a_job_whose_folder_cannot_be_written_holds_nobody_up(serve_here, image, monkeypatch):
    save, refused = JobFolder.save, []

    def denied(folder, job):
        if not refused or job.id in refused:
            refused.append(job.id)
            raise OutputError("cannot write.") from OSError(errno.EACCES, "Permission denied")
        save(folder, job)

    client = serve_here()
    monkeypatch.setattr(JobFolder, "save", denied)
    form = {"data": {"bundle": "tiny_bundle"}, "files": {"image": image.read_bytes()}}
    first, second = (client.post("/v1/jobs", **form).json()["id"] for _ in range(2))
    deadline = time.monotonic() + 10
    while client.get(f"/v1/jobs/{second}").json()["state"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status = client.get(f"/v1/jobs/{first}").json()
    assert status["state"] == "failed"
    assert status["error"] == "its folder on the server cannot be written."


def test_a_full_disk_keeps_no_server_from_stopping(tiny, tmp_path, monkeypatch, caplog):
    settings = ServerSettings(tmp_path, (str(tiny),))
    stopping = service.Service(settings, Catalogue(settings.bundles, tmp_path / "trained"), ["cpu"])
    jobs = [new_job("tiny_bundle", JobOptions()) for _ in range(2)]
    for job in jobs:
        job.state, job.attempts = "running", 1
        with stopping.folder.incoming() as received:
            stopping.folder.take(received, job)
        stopping._jobs[job.id], stopping._at_work[job.id] = job, stopping._workers["cpu"]
    save = JobFolder.save

    def full(folder, job):
        if job is jobs[0]:
            raise OutputError("cannot write.") from OSError(errno.ENOSPC, "No space left on device")
        save(folder, job)

    monkeypatch.setattr(JobFolder, "save", full)
    asyncio.run(stopping.stop())
    assert f"job {jobs[0].id}: that it is running could not be written down" in caplog.text
    assert {job.id: job.attempts for job in stopping.folder.load()} == {
        jobs[0].id: 1,
        jobs[1].id: 0,
    }


def test_the_queue_has_an_end(serve_here, image):
    client = serve_here(limits=Limits(waiting_jobs=1))
    form = {"data": {"bundle": "tiny_bundle"}, "files": {"image": image.read_bytes()}}
    statuses = [client.post("/v1/jobs", **form).status_code for _ in range(4)]
    assert statuses[0] == 202
    assert 503 in statuses  # one is being computed, one waits


def test_jobs_are_removed_when_they_expire_or_room_is_needed(serve_here, tmp_path):
    claim_folder(tmp_path / "served")
    jobs = tmp_path / "served" / "jobs"
    for name, ended, held in (("a" * 32, 0, 10), ("b" * 32, time.time(), 600), ("c" * 32, None, 0)):
        (jobs / name).mkdir(parents=True)
        state = "queued" if ended is None else "done"
        job = {"id": name, "bundle": "gone", "options": {}, "state": state, "created": ord(name[0])}
        (jobs / name / "job.json").write_text(
            json.dumps({**job, "ended": ended, "held_bytes": held})
        )
    client = serve_here(limits=Limits(disk_bytes=9000, upload_bytes=8900, keep_seconds=3600))
    deadline = time.monotonic() + 10
    while (jobs / ("a" * 32)).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [job["id"][0] for job in client.get("/v1/jobs").json()] == ["b", "c"]
    nothing = {"data": {"bundle": "tiny_bundle"}, "files": {"image": bytes(8500)}}
    assert client.post("/v1/jobs", **nothing).status_code == 422
    assert not (jobs / ("b" * 32)).exists()
    (left,) = client.get("/v1/jobs").json()
    assert left["state"] == "failed"  # its bundle is not served any more
    assert "gone" in left["error"]


def test_answers_carry_headers_that_keep_browsers_safe(serve_here):
    client = serve_here()
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in page.text.replace("httpequiv", "").replace("XMLHttpRequest", "").lower()
    for answer in (page, client.get("/v1/health"), client.get("/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    for path in ("/docs", "/redoc", "/jobs/", "/static/", "/%2e%2e/etc/passwd"):
        assert client.get(path).status_code == 404, path


def test_logs_name_no_image(serve_here, caplog):
    client = serve_here()
    with caplog.at_level("INFO", "volseg.server"):
        client.get("/datastore/image", params={"image": "Doe_Jane"})
        client.get("/session/Doe_Jane")
        client.get("/Doe_Jane")
    assert "GET /datastore/image 404" in caplog.text
    assert "GET /session/{session_id} 404" in caplog.text
    assert "Doe" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("volseg")
    )


def test_a_fault_says_where_it_is_and_quotes_nothing(serve_here, monkeypatch, caplog):
    def images(_):
        raise ValueError("Doe_Jane.nii.gz")

    client = serve_here()
    monkeypatch.setattr(Datastore, "images", images)
    answer = client.get("/datastore/image", params={"image": "ball"})
    assert answer.status_code == 500
    assert answer.json()["detail"] == "unexpected ValueError (a fault)."
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "datastore.py" in caplog.text
    assert "Doe" not in caplog.text.replace('ValueError("Doe_Jane.nii.gz")', "")  # its own line


def test_a_datastore_that_cannot_be_written_says_no_more_than_that(
    serve_here, image, tmp_path, caplog
):
    client = serve_here()
    (tmp_path / "served" / "datastore" / "Doe.nii.gz").mkdir()  # in the way
    with caplog.at_level("ERROR", "volseg.server"):
        answer = client.put("/datastore/image?image=Doe", files={"file": image.read_bytes()})
    assert answer.status_code == 507
    assert str(tmp_path) not in answer.text
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "Doe" not in record.getMessage()


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    folder = tmp_path / "study"
    for name in ("jobs/incoming", "training", "sessions/baseline"):
        (folder / name).mkdir(parents=True)
        (folder / name / "scan.nii").write_text("precious")
    (folder / "notes.txt").write_text("precious")
    before = sorted(folder.rglob("*"))
    settings = ServerSettings(folder, ("hippocampus_unet",), port=0, devices=("cpu",))
    with pytest.raises(InputError, match="notes.txt and no volseg-server.json"):
        serve(settings, lambda _: None)
    assert sorted(folder.rglob("*")) == before


def test_images_may_be_laid_ready_in_a_new_folder(tmp_path):
    """In the root of a disk, too."""
    for name in ("datastore", "lost+found"):
        (tmp_path / name).mkdir()
    claim_folder(tmp_path)
    assert (tmp_path / "volseg-server.json").is_file()


def test_nothing_but_its_own_is_removed_from_its_folder(serve_here, tmp_path):
    """One that an earlier version had, which left no mark; somebody lays something into it."""
    folder = tmp_path / "served"
    theirs = [
        folder / place / "scan" for place in ("jobs", "jobs/incoming", "sessions", "training")
    ]
    own = [path.with_name("a" * 32) for path in theirs[1:]]
    for path in (*theirs, *own):
        path.mkdir(parents=True)
        (path / "scan.nii").write_text("content")
    serve_here()
    assert [path.exists() for path in theirs] == [True] * 4
    assert [path.exists() for path in own] == [False] * 3
    assert (folder / "volseg-server.json").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "0.0.0.0"}, "token"),
        ({"host": "192.168.1.5"}, "token"),
        ({"host": "myhost"}, "token"),
        ({"bundles": ()}, "bundle"),
        ({"pacs": ("https://pacs.example",)}, "dicomweb"),
        ({"pacs": ("dicomweb://pacs.example?series=1",)}, "conditions"),
    ],
)
def test_settings_that_are_not_safe_are_refused(tmp_path, changes, words):
    given = {"folder": tmp_path, "bundles": ("tiny_bundle",), **changes}
    with pytest.raises(InputError, match=words):
        ServerSettings(**given)
    assert "secret" not in repr(ServerSettings(tmp_path, ("a",), host="::", token="secret"))
