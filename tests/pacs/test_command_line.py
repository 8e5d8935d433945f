"""volseg pacs, volseg anonymize and volseg segment with servers, as a user meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from volseg import Segmenter, read_image
from volseg.cli.main import main
from volseg.io import grid_of
from volseg.io.dicom.segmentations import read_segmentation


def run(capfd, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capfd.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def assert_one_sentence(errors):
    assert "Traceback" not in errors
    assert len([line for line in errors.splitlines() if line.strip()]) == 1, errors


@pytest.fixture
def login(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("geheim-ü\n")
    return ("--user", "tester", "--password", f"file:{tmp_path / 'password'}")


@pytest.fixture
def stored(orthanc, make_series):
    paths = make_series(16)
    for path in paths:
        orthanc.store(path)
    return paths


@pytest.fixture(params=["dicomweb", "dimse"])
def reached(request, orthanc, login):
    """Address of Orthanc, and the options it needs."""
    return (orthanc.dicomweb, login) if request.param == "dicomweb" else (orthanc.dimse, ())


def test_echo(capfd, reached):
    address, options = reached
    assert run(capfd, "pacs", "echo", address, *options) == (0, f"{address} answers.\n", "")


def test_find_fetch_push(capfd, reached, stored, tmp_path, make_series, orthanc):
    address, options = reached
    first = pydicom.dcmread(stored[0])
    patient = str(first.PatientID)
    code, text, _ = run(capfd, "pacs", "find", address, "--patient", patient, *options)
    assert code == 0
    assert str(first.SeriesInstanceUID) in text.replace("\n", "")
    code, text, _ = run(capfd, "pacs", "find", f"{address}?patient={patient}", "--json", *options)
    assert [row["series"] for row in json.loads(text)] == [first.SeriesInstanceUID]
    code, text, errors = run(
        capfd, "pacs", "fetch", address, "--patient", patient, "-o", tmp_path / "out", *options
    )
    folder = tmp_path / "out" / str(first.SeriesInstanceUID)
    assert (code, text, errors) == (0, f"{folder}\n", "")
    assert len(list(folder.iterdir())) == 16
    others = make_series(2)
    code, text, _ = run(capfd, "pacs", "push", address, others[0].parent, *options)
    assert (code, text) == (0, f"{address}: 2 sent.\n")
    code, text, _ = run(capfd, "pacs", "push", address, *others, *options)
    assert text == f"{address}: 0 sent, 2 were there.\n"


def test_what_is_missing_or_wrong_is_one_sentence(capfd, reached, tmp_path):
    address, options = reached
    for words, code, message in (
        (("fetch", address, "-o", tmp_path), 2, "without a condition is of all"),
        (("fetch", f"{address}?patient=nobody", "-o", tmp_path), 2, "has no series"),
        (("fetch", f"{address}?patinet=1", "-o", tmp_path), 2, "did you mean 'patient'"),
        (("push", f"{address}?patient=1", tmp_path), 2, "no meaning for a push"),
        (("push", address, tmp_path / "none"), 2, "there is no file or folder"),
        (("find", address, "--date", "May"), 2, "expected YYYYMMDD"),
        (("find", address, "--study", "12a"), 2, "not a DICOM UID"),
        (("find", "orthanc.example", "--study", "1.2"), 2, "cannot be read: expected dicomweb://"),
    ):
        got, _, errors = run(capfd, "pacs", *words, *options)
        assert got == code, errors
        assert message in errors
        assert_one_sentence(errors)


def test_a_wrong_password_is_one_sentence_that_keeps_it(capfd, orthanc, monkeypatch):
    monkeypatch.setenv("PACS_PASSWORD", "secret-but-wrong")
    words = ("--user", "tester", "--password", "env:PACS_PASSWORD", "--debug")
    code, text, errors = run(capfd, "pacs", "echo", orthanc.dicomweb, *words[:-1])
    assert code == 1
    assert "HTTP status 401" in errors
    assert_one_sentence(errors)
    assert "secret-but-wrong" not in text + errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--token", "abc.def"), "env:NAME or file:PATH, never the secret"),
        (("--token", "env:VOLSEG_NO_SUCH"), "VOLSEG_NO_SUCH is not set or empty"),
        (("--token", "file:/no/such"), "cannot read the file /no/such"),
        (("--user", "me"), "both a user and a password"),
    ],
)
def test_secrets_come_from_where_they_are_kept(capfd, words, message):
    code, text, errors = run(capfd, "pacs", "echo", "dicomweb://127.0.0.1:1/x", *words)
    assert code == 2
    assert message in errors
    assert "abc.def" not in text + errors


@pytest.mark.usefixtures("_collected")
def test_no_server_is_one_sentence_and_exit_code_1(capfd):
    for address in ("dicomweb://127.0.0.1:1/root", "dimse://ANY@127.0.0.1:1"):
        code, _, errors = run(capfd, "pacs", "find", address)
        assert code == 1
        assert "Connection refused" in errors
        assert_one_sentence(errors)


def test_segment_from_a_server_gives_the_labels_of_the_folder(
    capfd, reached, stored, tiny_bundle, tmp_path
):
    address, options = reached
    series = str(pydicom.dcmread(stored[0]).SeriesInstanceUID)
    out = tmp_path / "out"
    words = (f"{address}?series={series}", "-o", out, "-b", tiny_bundle, *options)
    code, text, errors = run(capfd, "segment", *words, "--fetched", tmp_path / "kept", "--json")
    assert code == 0, errors
    (row,) = json.loads(text)
    assert row["input"].startswith(f"{address}?study=")
    assert row["input"].endswith(f"&series={series}")
    assert row["output"] == str(out / f"{series}_seg.nii.gz")
    assert len(list((tmp_path / "kept" / series).iterdir())) == 16
    expected = Segmenter(tiny_bundle).segment(stored[0].parent)
    got = nib.load(row["output"])
    assert np.array_equal(np.asarray(got.dataobj), expected.numpy()[0])
    assert np.array_equal(got.affine, expected.affine.numpy())
    code, text, _ = run(capfd, "segment", *words, "--skip-existing", "--json")
    assert json.loads(text)[0]["status"] == "skipped"


def test_segment_says_what_it_cannot_fetch_or_push(capfd, orthanc, stored, tiny_bundle, tmp_path):
    series = str(pydicom.dcmread(stored[0]).SeriesInstanceUID)
    words = ("-o", tmp_path / "out", "-b", tiny_bundle)
    code, _, errors = run(capfd, "segment", orthanc.dimse, *words)
    assert code == 2
    assert "names a server and no series" in errors
    code, _, errors = run(capfd, "segment", f"{orthanc.dimse}?series=1.2.3", *words)
    assert code == 2
    assert "has no series that meets" in errors
    source = f"{orthanc.dimse}?series={series}"
    code, _, errors = run(capfd, "segment", source, *words, "--push", "source")
    assert code == 2
    assert "--push sends DICOM files: add dicom-seg" in errors
    formats = ("--format", "dicom-seg", "--push", "source")
    code, _, errors = run(capfd, "segment", stored[0].parent, *words, *formats)
    assert code == 2
    assert "does not come from a server" in errors
    code, _, errors = run(capfd, "segment", source, *words, *formats, "--anonymize")
    assert code == 2
    assert "which their server does not know" in errors
    assert not (tmp_path / "out").exists()


def test_results_are_pushed_and_found_beside_their_images(
    capfd, reached, orthanc, stored, tiny_bundle, tmp_path
):
    """From the server to the server: the segmentation that comes back is the one of the folder."""
    address, options = reached
    first = pydicom.dcmread(stored[0])
    source, out = f"{address}?series={first.SeriesInstanceUID}", tmp_path / "out"
    formats = ("--format", "nifti,dicom-seg,rtstruct,sr", "--push", "source", "--json")
    words = ("segment", source, "-o", out, "-b", tiny_bundle, *formats, *options)
    code, text, errors = run(capfd, *words)
    assert code == 0, errors
    (row,) = json.loads(text)
    assert row["pushed"] == 3
    fetch = ("pacs", "fetch", f"{address}?study={first.StudyInstanceUID}", "-o", tmp_path / "back")
    code, text, _ = run(capfd, *fetch, "--json", *options)
    folders = [Path(found["folder"]) for found in json.loads(text)]
    files = {}
    for folder in folders:
        for path in folder.iterdir():
            files.setdefault(pydicom.dcmread(path, stop_before_pixels=True).Modality, path)
    assert set(files) == {"CT", "SEG", "RTSTRUCT", "SR"}
    assert len(folders) == 4
    for modality, ending in (("SEG", "_seg.dcm"), ("RTSTRUCT", "_rtstruct.dcm"), ("SR", "_sr.dcm")):
        written = pydicom.dcmread(out / f"{first.SeriesInstanceUID}{ending}")
        assert pydicom.dcmread(files[modality]) == written
    image = read_image(tmp_path / "back" / str(first.SeriesInstanceUID))
    back = read_segmentation(files["SEG"], source=grid_of(image))
    expected = Segmenter(tiny_bundle).segment(stored[0].parent)
    assert expected.any()
    assert np.array_equal(back.image.values[0], expected.numpy()[0])
    # A second run segments nothing and finds that the server has all.
    code, text, errors = run(capfd, *words, "--skip-existing")
    assert code == 0, errors
    assert [(row["status"], row["pushed"]) for row in json.loads(text)] == [("skipped", 3)]


def test_anonymized_fetch_and_push_meet(capfd, orthanc, stored, login, tmp_path):
    """What was fetched anonymized has the UIDs under which the originals are pushed so."""
    first = pydicom.dcmread(stored[0])
    key = ("--anonymize", "--key", tmp_path / "key")
    words = (f"{orthanc.dimse}?patient={first.PatientID}", "-o", tmp_path / "out", *key)
    code, text, errors = run(capfd, "pacs", "fetch", *words)
    assert code == 0, errors
    (folder,) = (tmp_path / "out").iterdir()
    assert text == f"{folder}\n"
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(times) == 16
    assert run(capfd, "pacs", "fetch", *words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    texts = {b"ller", str(first.PatientID).encode(), str(first.SeriesInstanceUID).encode()}
    for path in times:
        assert not any(text in path.read_bytes() for text in texts)
    code, text, _ = run(capfd, "pacs", "push", orthanc.dicomweb, folder, *login)
    assert text == f"{orthanc.dicomweb}: 16 sent.\n"
    code, text, _ = run(capfd, "pacs", "push", orthanc.dicomweb, stored[0].parent, *login, *key)
    assert text == f"{orthanc.dicomweb}: 0 sent, 16 were there.\n"


def test_anonymize_names_what_it_refuses(capfd, make_series, tmp_path):
    paths = make_series(3)
    burnt = pydicom.dcmread(paths[1])
    burnt.BurnedInAnnotation = "YES"
    burnt.save_as(paths[1])
    words = (paths[0].parent, "-o", tmp_path / "out", "--key", tmp_path / "key")
    code, text, errors = run(capfd, "anonymize", *words)
    assert code == 1
    assert text == f"{tmp_path / 'out'}: 2 files\n"
    assert str(paths[1]) in errors
    assert "burnt into its pixels" in errors
    assert_one_sentence(errors)
    assert run(capfd, "anonymize", *words, "--pixels-checked")[0] == 0
    # A push says so before anything is sent; nothing listens at this address.
    words = (*words[:1], "--anonymize", *words[3:])
    code, _, errors = run(capfd, "pacs", "push", "dimse://ANY@127.0.0.1:1", *words)
    assert code == 2
    assert "burnt into its pixels" in errors


def test_ctrl_c_leaves_whole_files_only(http_server, make_series, tmp_path):
    """The third instance never comes; the process is interrupted while it waits."""
    over = threading.Event()
    paths = make_series(4)
    datasets = {str(pydicom.dcmread(path).SOPInstanceUID): path.read_bytes() for path in paths}
    first = pydicom.dcmread(paths[0])

    def answer(handler):
        uid = handler.path.rpartition("/")[2]
        kind = "application/dicom+json"
        if uid in datasets:
            if uid == list(datasets)[2]:
                over.wait(60)
                return
            body = b"--b\r\n\r\n" + datasets[uid] + b"\r\n--b--"
            kind = 'multipart/related; type="application/dicom"; boundary=b'
        else:
            row = {
                "0020000D": {"vr": "UI", "Value": [first.StudyInstanceUID]},
                "0020000E": {"vr": "UI", "Value": [first.SeriesInstanceUID]},
            }
            rows = [row]
            if "/instances" in handler.path:
                rows = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in datasets]
            body = json.dumps(rows if "offset=0" in handler.path else []).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    out = tmp_path / "out"
    words = ["pacs", "fetch", http_server(answer), "--study", str(first.StudyInstanceUID)]
    process = subprocess.Popen(
        [sys.executable, "-m", "volseg", *words, "-o", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    whole = {f"{uid}.dcm" for uid in list(datasets)[:2]}  # and no files that are being written
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not whole <= {path.name for path in out.rglob("*.dcm")}:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    over.set()
    assert process.returncode == 130
    assert "nothing half-written was left behind" in errors
    assert "Traceback" not in errors
    names = sorted(path.name for path in out.rglob("*") if path.is_file())
    assert names == sorted(f"{uid}.dcm" for uid in list(datasets)[:2])
