"""``/v1`` as a client meets it."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest

from volseg.cli.main import main
from volseg.server import Limits


def segmented(capfd, image, out, bundle):
    """What `volseg segment` writes."""
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(image), "-o", str(out), "--bundle", str(bundle)])
    capfd.readouterr()
    return nib.load(out / f"{image.name.removesuffix('.nii.gz')}_seg.nii.gz")


def loaded(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def assert_same(found, expected):
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.array_equal(found.affine, expected.affine)
    assert found.get_data_dtype() == expected.get_data_dtype()


def test_a_job_gives_what_the_command_gives(server, image, tiny, tmp_path, capfd):
    expected = segmented(capfd, image, tmp_path, tiny)
    assert np.asarray(expected.dataobj).any()
    assert_same(loaded(server.result(server.submit(image))), expected)


def test_channels_are_files_of_their_own_by_name(server, two_channel_bundle, tmp_path, capfd):
    folder = two_channel_bundle.parent / "data" / "images"
    files = {name: folder / name / "ball0.nii.gz" for name in ("flair", "t1")}  # in any order
    words = [word for name, path in files.items() for word in ("--channel", f"{name}={path}")]
    with pytest.raises(SystemExit, match="0"):
        main(["segment", *words, "-o", str(tmp_path), "--bundle", str(two_channel_bundle)])
    capfd.readouterr()

    def post(parts):
        return server.client.post("/v1/jobs", data={"bundle": "two_channel_bundle"}, files=parts)

    parts = {f"channel:{name.upper()}": path.read_bytes() for name, path in files.items()}
    job = post(parts).json()["id"]
    (written,) = tmp_path.glob("*_seg.nii.gz")
    assert_same(loaded(server.result(job)), nib.load(written))
    record = server.client.get(f"/v1/jobs/{job}/record").json()
    assert set(record["image"]["channels"].values()) == {"upload"}
    for wrong in (
        {"channel:t1": b"", "channel:t2": b""},
        {"channel:t1": b""},
        {"channel:t1": b"", "channel:T1": b""},
        parts | {"image": b""},
    ):
        answer = post(wrong)
        assert answer.status_code == 422
        assert "t1, flair" in answer.json()["detail"]


def test_a_record_tells_how_the_result_was_made(server, image):
    job = server.submit(image)
    server.ended(job)
    record = server.client.get(f"/v1/jobs/{job}/record").json()
    assert {row["name"] for row in record["statistics"]} >= {"anterior", "posterior"}
    assert record["bundles"][0]["name"] == "tiny_bundle"
    assert "/" not in record["image"]["path"]


def test_a_job_is_watched_until_its_end(server, image):
    job = server.submit(image)
    with server.client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    statuses = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert statuses[-1] == server.client.get(f"/v1/jobs/{job}").json()
    assert statuses[-1]["state"] == "done"
    assert statuses[-1]["progress"]["done"] == statuses[-1]["progress"]["total"] > 0
    order = [status["state"] for status in statuses]
    assert order == sorted(order, key=["queued", "running", "done"].index)


def test_bundles_say_what_a_client_needs(server):
    found = {one["name"]: one for one in server.client.get("/v1/bundles").json()}
    assert found["tiny_bundle"]["labels"] == {"anterior": 1, "posterior": 2}
    assert len(found["tiny_bundle"]["channels"]) == 1
    real = found["hippocampus_unet"]
    assert real["spatial_dims"] == 3
    assert set(real["colors"]) == set(real["segments"]) == set(real["labels"])
    assert real["segments"]["anterior"]["type"]["meaning"] == "Hippocampus"


def test_a_damaged_bundle_among_those_trained_here_is_left_out(serve_here, tiny, tmp_path, caplog):
    trained = tmp_path / "served" / "trained"
    client = serve_here()
    trained.mkdir()
    (trained / ".DS_Store").touch()
    (trained / "notes.txt").touch()
    for name in ("half", "whole"):
        shutil.copytree(tiny, trained / name)
    shutil.rmtree(trained / "half" / "models")
    with caplog.at_level("WARNING", "volseg.server"):
        for _ in range(2):
            found = [one["name"] for one in client.get("/v1/bundles").json()]
            assert found == ["tiny_bundle", "whole"]
    assert [record.args[0] for record in caplog.records] == ["half", "notes.txt"]
    assert list(client.get("/info/").json()["models"]) == found


def test_one_bad_job_leaves_the_others(server, image, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:2000])
    jobs = [server.submit(path) for path in (image, broken, image)]
    ends = [server.ended(job) for job in jobs]
    assert [end["state"] for end in ends] == ["done", "failed", "done"]
    assert "/" not in ends[1]["error"].replace("input/", "")  # no path of the server
    answer = server.client.get(f"/v1/jobs/{jobs[1]}/result")
    assert answer.status_code == 409
    assert ends[1]["error"] in answer.json()["detail"]


def test_waiting_and_running_jobs_are_cancelled(server, image):
    server.ended(server.submit(image))
    worker = server.worker()
    worker.suspend()  # so that the first stays running, and the second waiting
    try:
        jobs = [server.submit(image) for _ in range(2)]
        assert server.client.get(f"/v1/jobs/{jobs[1]}").json()["state"] == "queued"
        server.client.delete(f"/v1/jobs/{jobs[1]}")
        assert server.client.get(f"/v1/jobs/{jobs[1]}").json()["state"] == "cancelled"
        server.client.delete(f"/v1/jobs/{jobs[0]}")
    finally:
        worker.resume()
    assert server.ended(jobs[0])["state"] == "cancelled"
    assert server.client.delete(f"/v1/jobs/{jobs[0]}").status_code == 200
    assert server.client.get(f"/v1/jobs/{jobs[0]}").status_code == 404
    assert server.ended(server.submit(image))["state"] == "done"


def test_a_worker_that_is_killed_costs_one_job(server, image):
    server.ended(server.submit(image))
    worker = server.worker()
    worker.suspend()
    jobs = [server.submit(image) for _ in range(2)]
    worker.send_signal(signal.SIGKILL)
    ends = [server.ended(job) for job in jobs]
    assert [end["state"] for end in ends] == ["failed", "done"]
    assert "SIGKILL" in ends[0]["error"]


def test_a_hundred_clients_at_once(server, image):
    with ThreadPoolExecutor(100) as pool:
        jobs = list(pool.map(lambda _: server.submit(image), range(100)))
    assert len(set(jobs)) == 100
    results = {server.result(job) for job in jobs}
    assert len({gzip.decompress(result) for result in results}) == 1


def test_wrong_requests_get_one_sentence(server, image):
    content = image.read_bytes()

    def post(data, **files):
        return server.client.post("/v1/jobs", data=data, files=files)

    for answer, status, words in (
        (post({"bundle": "tiny_bundel"}, image=content), 404, "tiny_bundle"),
        (post({"bundle": "tiny_bundle"}, image=b"nothing"), 422, "no known format"),
        (post({"bundle": "tiny_bundle"}, picture=content), 422, "a part 'image'"),
        (post({"bundle": "tiny_bundle"}, other=b""), 422, "files were sent for other"),
        (post({"bundle": "tiny_bundle", "options": "{"}, image=content), 422, "options"),
        (post({"bundle": "tiny_bundle", "options": '{"tile": 1}'}, image=content), 422, "tile"),
        (
            post({"bundle": "tiny_bundle", "options": '{"formats": ["sr"]}'}, image=content),
            422,
            "dicom-seg",
        ),
        (server.client.post("/v1/jobs", data={"bundle": "tiny_bundle"}), 415, "form"),
        (server.client.get("/v1/jobs/../../etc/passwd"), 404, ""),
        (server.client.get("/v1/jobs/none"), 404, "no such job"),
    ):
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]


def test_a_reference_to_a_server_that_was_not_allowed_is_refused(server):
    for place in (
        "dicomweb://127.0.0.1:1/root?series=1.2",
        "dicomweb://169.254.169.254/latest?series=1.2",
        "dimse://ANY@localhost:104?series=1.2",
    ):
        answer = server.client.post(
            "/v1/jobs",
            files={"bundle": (None, "tiny_bundle"), "reference": (None, place)},
        )
        assert answer.status_code == 403, answer.text
        assert "--allow-pacs" in answer.json()["detail"]


def test_uploads_stay_within_the_limits(serve_here, tmp_path):
    client = serve_here(limits=Limits(upload_bytes=5000, waiting_jobs=1))
    big = {"image": bytes(6000)}
    assert client.post("/v1/jobs", data={"bundle": "tiny_bundle"}, files=big).status_code == 413

    def in_pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(1000)

    head = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/jobs", content=in_pieces(), headers=head).status_code == 413
    assert not list((tmp_path / "served" / "jobs" / "incoming").iterdir())
    assert client.get("/v1/jobs").json() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"--x", 400),
        (b"--x--\r\n", 404),
        (b"nonsense", 400),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", 400),
        (b'--x\r\nContent-Disposition: form-data; name="bundle"\r\n\r\ntiny_bundle', 400),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(2 << 20), 413),
    ],
)
def test_damaged_forms_are_refused(serve_here, body, status):
    client = serve_here()
    head = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/jobs", content=body, headers=head)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
