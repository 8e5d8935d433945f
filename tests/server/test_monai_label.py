"""MONAI Label's protocol, spoken by the client of its own plugin of 3D Slicer."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import platformdirs
import pytest
import SimpleITK as sitk
from filelock import FileLock

from tests.absence import report_absence
from volseg import Segmenter
from volseg.cli.main import main

_WHEEL = "monailabel==0.8.5"
_CLIENT = "plugins/slicer/MONAILabel/MONAILabelLib/client.py"
_TRAINING_SECONDS = 180
TOKEN = "geheim-ü"


# The client leaves the closing of sockets and files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected():
    """Have them collected at the end of a test, so that they reach no test elsewhere."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def client_module(request, tmp_path_factory):
    """The client of the plugin, out of MONAI Label's wheel from PyPI."""
    if sys.version_info >= (3, 13):
        pytest.skip("the client of MONAI Label 0.8.5 imports cgi, which Python 3.13 has not")
    cache = platformdirs.user_cache_path("volseg-tests", appauthor=False, ensure_exists=True)
    with FileLock(cache / "monailabel.lock"):  # of all processes of pytest-xdist
        if not list(cache.glob("monailabel-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", cache, _WHEEL]
            if subprocess.run(command, check=False, capture_output=True).returncode != 0:
                reason = f"{_WHEEL}, whose client is what is tested with, cannot be had from PyPI"
                report_absence(request.config, reason)
    wheel = next(cache.glob("monailabel-*.whl"))
    path = tmp_path_factory.mktemp("client") / "monailabel_client.py"
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(_CLIENT))
        path.write_bytes(archive.read(name))
    spec = importlib.util.spec_from_file_location("monailabel_client", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(client_module, server, tmp_path):
    return client_module.MONAILabelClient(server.address, tmpdir=str(tmp_path), client_id="me")


def assert_label_map(path, expected, like):
    found, image = nib.load(path), nib.load(like)
    assert np.array_equal(np.asarray(found.dataobj), expected)
    assert np.array_equal(found.affine, image.affine)


def test_info_has_what_the_plugin_reads(client):
    info = client.info()
    assert info["labels"] == ["anterior", "posterior"]
    model = info["models"]["tiny_bundle"]
    assert model["type"] == "segmentation"
    assert model["dimension"] == 3
    assert model["labels"] == {"anterior": 1, "posterior": 2}
    assert set(info["strategies"]) == {"first", "random"}
    assert "tiny_bundle" in info["trainers"]
    assert {"total", "completed"} <= set(info["datastore"])


def test_a_session_is_segmented(client, client_module, image, tiny):
    session = client.create_session(str(image))["session_id"]
    assert client.get_session(session)["image"] == "image.nii.gz"
    path, params = client.infer("tiny_bundle", "", {}, session_id=session)
    assert params["label_names"] == {"anterior": 1, "posterior": 2}
    assert path.endswith(".nii.gz")
    assert_label_map(path, Segmenter(tiny).segment(image).numpy()[0], image)
    client.remove_session(session)
    for call in (client.get_session, client.remove_session):
        with pytest.raises(client_module.MONAILabelClientException) as error:
            call(session)
        assert error.value.status_code == 404
        assert "expired" in json.loads(error.value.response)["detail"]


def test_an_image_of_the_datastore_may_be_a_link(server, server_folder, image, tmp_path):
    """A relative one, as tools that lay out data sets make them."""
    shutil.copyfile(image, tmp_path / "elsewhere.nii.gz")
    link = server_folder / "datastore" / "ball.nii.gz"
    link.symlink_to(os.path.relpath(tmp_path / "elsewhere.nii.gz", link.parent))
    address = "/infer/tiny_bundle?image=ball&output=image"
    try:
        answer = server.client.post(address, files={"label": b""}, timeout=120)
    finally:
        link.unlink()
    assert answer.status_code == 200, answer.text


def test_an_image_that_is_sent_along_is_segmented(client, image, tiny):
    path, _ = client.infer("tiny_bundle", "", {}, file=str(image))
    assert_label_map(path, Segmenter(tiny).segment(image).numpy()[0], image)


def test_the_datastore_keeps_images_and_labels(client, server, image, tiny, tmp_path):
    label = tiny.parent / "data" / "labels" / "ball0.nii.gz"
    assert client.upload_image(str(image), "case-1") == {"image": "case-1", "label": None}
    sample = client.next_sample("first", {})
    assert sample["id"] == "case-1"
    assert Path(sample["path"]).read_bytes() == image.read_bytes()
    url = f"/datastore/image?image={sample['id']}"
    assert server.client.get(url).content == image.read_bytes()
    path, _ = client.infer("tiny_bundle", "case-1", {})
    assert_label_map(path, Segmenter(tiny).segment(image).numpy()[0], image)
    info = [{"name": "anterior", "idx": 1}, {"name": "posterior", "idx": 2}]
    client.save_label("case-1", str(label), "", {"label_info": info})
    stored = client.datastore()["objects"]["case-1"]
    assert stored["image"]["ext"] == ".nii.gz"
    assert stored["labels"]["final"]["info"]["label_info"] == info
    assert client.info()["datastore"] == {
        "total": 1,
        "completed": 1,
        "label_tags": {"final": 1},
        "train": [],
    }
    assert client.next_sample("random", {}) == {}
    assert Path(client.download_label("case-1", "final")).read_bytes() == label.read_bytes()
    # An image with labels is not replaced under their feet.
    with pytest.raises(Exception, match="has labels"):
        client.upload_image(str(image), "case-1")
    server.client.delete("/datastore/label", params={"id": "case-1", "tag": "final"})
    assert client.next_sample("first", {})["id"] == "case-1"
    server.client.delete("/datastore/image", params={"id": "case-1"})
    assert client.datastore()["objects"] == {}


def test_wrong_calls_are_refused_with_a_sentence(client, client_module, server, image, tmp_path):
    nothing = tmp_path / "nothing.nii.gz"
    nothing.write_bytes(b"nothing")
    for call, status, words in (
        (lambda: client.infer("tiny_bundel", "", {}, file=str(image)), 404, "tiny_bundle"),
        (lambda: client.infer("tiny_bundle", "unknown", {}), 404, "unknown"),
        (lambda: client.infer("tiny_bundle", "", {}, session_id="0"), 404, "session"),
        (lambda: client.infer("tiny_bundle", "", {}, file=str(nothing)), 422, "no known format"),
        (lambda: client.create_session(str(nothing)), 422, "no known format"),
        (lambda: client.next_sample("guess", {}), 404, "random"),
        (lambda: client.upload_image(str(image), "../../evil"), 422, "evil"),
        (lambda: client.upload_image(str(image), ".hidden"), 422, "hidden"),
        (lambda: client.save_label("unknown", str(image)), 404, "unknown"),
        (lambda: client.download_label("unknown", "final"), 404, "unknown"),
        (lambda: client.download_label("../server", "lock"), 404, "server"),
        (lambda: client.train_start("tiny_bundle", {}), 422, "finished label"),
        (lambda: client.train_start("none", {}), 404, "tiny_bundle"),
        (client.train_status, 404, "no training"),
        (client.train_stop, 404, "no training"),
    ):
        with pytest.raises(client_module.MONAILabelClientException) as error:
            call()
        assert f"Status: {status}" in error.value.msg
        assert words in error.value.msg
    assert not client.train_status(check_if_running=True)
    assert server.client.get("/datastore/").json()["total"] == 0


def test_an_image_that_cannot_be_segmented_is_said_to_be(client, client_module, tmp_path):
    flat = nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.float32), np.eye(4))
    nib.save(flat, tmp_path / "flat.nii.gz")
    with pytest.raises(client_module.MONAILabelClientException) as error:
        client.infer("tiny_bundle", "", {}, file=str(tmp_path / "flat.nii.gz"))
    assert "Status: 409" in error.value.msg
    assert "3 channels" in error.value.msg


def test_labels_are_contiguous_where_the_bundles_are_not(tmp_path):
    from volseg.server.contiguous import contiguous_labels, make_contiguous

    labels = {"tumour": 7, "liver": 3}
    assert contiguous_labels(labels) == {"liver": 1, "tumour": 2}
    values = np.array([0, 3, 7, 7, 5, 0, 3, 0], np.uint8).reshape(2, 2, 2)
    affine = np.diag([-0.7, 0.8, 2.5, 1.0])
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "labels.nii.gz")
    make_contiguous(tmp_path / "labels.nii.gz", labels)
    found = nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(found.dataobj, np.array([0, 1, 2, 2, 0, 0, 1, 0]).reshape(2, 2, 2))
    assert np.allclose(found.affine, affine)
    assert found.get_data_dtype() == np.uint8


def test_a_server_with_a_token_lets_nobody_else_in(client_module, serve_here, tmp_path):
    address = str(serve_here(token=TOKEN).base_url)
    client = client_module.MONAILabelClient(address, str(tmp_path), "me")
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    for call in (client.info, client.datastore, client.train_status):
        with pytest.raises(client_module.MONAILabelClientException) as error:
            call()
        assert "401" in error.value.msg
    with pytest.raises(client_module.MONAILabelClientException):
        client.auth_token("anybody", "guess")
    client.update_auth(client.auth_token("anybody", TOKEN))
    assert client.auth_valid_token()
    assert client.info()["name"] == "volseg"


def test_training_trains_and_its_bundle_segments(client, server, tiny, tmp_path):
    """What people have labelled becomes a bundle, which is offered without a restart."""
    data, before = tiny.parent / "data", set(client.info()["models"])
    info = [{"name": "posterior", "idx": 1}, {"name": "anterior", "idx": 2}]  # as Slicer had them
    for number in range(4):
        stored = nib.load(data / "labels" / f"ball{number}.nii.gz")
        turned = np.array([0, 2, 1], np.uint8)[np.asarray(stored.dataobj)]
        nib.save(nib.Nifti1Image(turned, stored.affine), tmp_path / "label.nii.gz")
        client.upload_image(str(data / "images" / f"ball{number}.nii.gz"), f"ball{number}")
        client.save_label(f"ball{number}", str(tmp_path / "label.nii.gz"), "", {"label_info": info})
    task = client.train_start("tiny_bundle", {"epochs": 1})
    assert task["status"] == "RUNNING"
    with pytest.raises(Exception, match="429"):
        client.train_start("tiny_bundle", {"epochs": 1})
    assert client.train_status(check_if_running=True)
    assert client.train_stop()["status"] == "STOPPED"
    assert not client.train_status(check_if_running=True)
    client.train_start("tiny_bundle", {"epochs": 1})
    deadline = time.monotonic() + _TRAINING_SECONDS
    while client.train_status(check_if_running=True) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert client.train_status()["status"] == "DONE", client.train_status()
    stats = client.info()["train_stats"]["tiny_bundle"]
    assert stats["epoch"] == stats["total_epochs"] == 1
    (trained,) = set(client.info()["models"]) - before
    assert trained in client.train_status()["result"]
    path, _ = client.infer(trained, "ball0", {})
    assert nib.load(path).shape == nib.load(data / "images" / "ball0.nii.gz").shape
    for number in range(4):
        server.client.delete("/datastore/image", params={"id": f"ball{number}"})


def test_what_a_training_that_failed_said_is_kept(serve_here, tiny, tmp_path):
    bundle = shutil.copytree(tiny, tmp_path / "bundles" / "tiny_bundle")
    (bundle / "dangling").symlink_to("nowhere")  # so that it cannot be copied
    client = serve_here(bundles=(str(bundle),))
    for number in range(2):
        for kind in ("image", "label"):
            content = (tiny.parent / "data" / f"{kind}s" / f"ball{number}.nii.gz").read_bytes()
            place = {"image": "image?image", "label": "label?tag=final&image"}[kind]
            part = {"image": "file", "label": "label"}[kind]
            address = f"/datastore/{place}=ball{number}"
            assert client.put(address, files={part: content}).status_code == 200
    assert client.post("/train/tiny_bundle", json={"epochs": 1}).status_code == 200
    deadline = time.monotonic() + _TRAINING_SECONDS
    while client.get("/train/").json()["status"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert client.get("/train/").json()["status"] == "ERROR"
    (folder,) = (tmp_path / "served" / "training").iterdir()
    assert [path.name for path in folder.iterdir()] == ["log.txt"]
    assert "shutil.Error" in (folder / "log.txt").read_text()


@pytest.mark.data
def test_a_real_scan_gives_what_the_command_gives(client, data_root, tmp_path):
    """As NRRD, too, which is what Slicer sends if its user wants that."""
    case = data_root / "msd_hippocampus" / "images" / "hippocampus_001.nii.gz"
    with pytest.raises(SystemExit, match="0"):
        main(["segment", str(case), "-o", str(tmp_path), "--bundle", "hippocampus_unet"])
    expected = np.asarray(nib.load(tmp_path / "hippocampus_001_seg.nii.gz").dataobj)
    assert expected.any()
    path, _ = client.infer("hippocampus_unet", "", {}, file=str(case))
    assert_label_map(path, expected, case)
    sitk.WriteImage(sitk.ReadImage(case), tmp_path / "case.nrrd")
    path, _ = client.infer("hippocampus_unet", "", {}, file=str(tmp_path / "case.nrrd"))
    assert np.array_equal(np.asarray(nib.load(path).dataobj), expected)
