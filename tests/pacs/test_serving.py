"""A server of segmentation that fetches from a real Orthanc, where it was allowed to."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pydicom

from tests.server.waiting import ended

from .conftest import PASSWORD, USER


def test_a_reference_is_fetched_and_segmented(orthanc, make_series, tiny_bundle, tmp_path):
    paths = make_series(slices=20)
    for path in paths:
        orthanc.store(path)
    series = pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "volseg", "serve", "--bundle", tiny_bundle),
            *("--port", "0", "--folder", tmp_path / "kept", "--allow-pacs", orthanc.dicomweb),
            *("--pacs-user", USER, "--pacs-password", "env:VOLSEG_TEST_PASSWORD"),
        ],
        env={**os.environ, "VOLSEG_TEST_PASSWORD": PASSWORD},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stderr.readline().split()[-1]
        with httpx.Client(base_url=address, timeout=60) as client:

            def submit(reference: str) -> httpx.Response:
                form = {"bundle": "tiny_bundle", "reference": reference}
                form["options"] = '{"formats": ["dicom-seg"]}'
                return client.post("/v1/jobs", files={k: (None, v) for k, v in form.items()})

            job = submit(f"{orthanc.dicomweb}?series={series}").json()["id"]
            nothing = submit(f"{orthanc.dicomweb}?series=1.2.3").json()["id"]
            found = [ended(client, one) for one in (job, nothing)]
            assert found[0]["state"] == "done", found[0]["error"]
            result = client.get(f"/v1/jobs/{job}/result").content
            (tmp_path / "seg.dcm").write_bytes(result)
            stored = pydicom.dcmread(tmp_path / "seg.dcm")
            assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == series
            assert found[1]["state"] == "failed"
            assert "no series" in found[1]["error"]
            # The same server by another name or port is another one, and so is its other root.
            for place in (
                orthanc.dicomweb.replace("127.0.0.1", "localhost"),
                orthanc.dicomweb.removesuffix("/dicom-web"),
                orthanc.dimse,
            ):
                assert submit(f"{place}?series={series}").status_code == 403
            assert submit(orthanc.dicomweb).status_code == 422
            assert PASSWORD not in client.get("/v1/jobs").text
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert PASSWORD not in errors
