"""The page, in a browser, with nothing but its own server to ask."""

from __future__ import annotations

import gzip
import shutil

import nibabel as nib
import numpy as np
import pytest

from volseg import Segmenter

_TOKEN = "geheim"


@pytest.fixture
def page(browser):
    """A page on which nothing goes wrong, and that asks no other server."""
    opened = browser.new_page()
    opened.set_default_timeout(60_000)
    wrong, asked = [], set()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    opened.on("request", lambda request: asked.add(request.url.split("/")[2]))
    yield opened
    addresses = {address for address in asked if address}
    assert len(addresses) <= 1, addresses
    assert [line for line in wrong if "Failed to load resource" not in line] == []  # 401, 422
    opened.close()


def test_an_image_is_segmented_in_the_browser(server, page, image, tiny, tmp_path):
    page.goto(server.address)
    page.select_option("#bundle", "tiny_bundle")
    assert page.locator("#labels li").all_text_contents() == ["anterior", "posterior"]
    page.set_input_files("#files input >> nth=0", image)
    assert page.locator("#dicom").is_hidden()
    page.click("#send")
    row = page.locator("#jobs tr", has_text="ball0.nii.gz")
    row.locator(".done").wait_for()
    job = server.client.get("/v1/jobs").json()[-1]["id"]
    quality = server.client.get(f"/v1/jobs/{job}/record").json()["quality"]
    assert quality["flags"], "a network of random weights gives a doubtful label map"
    for flag in quality["flags"]:
        row.get_by_text(flag["sentence"]).wait_for()
    with page.expect_download() as download:
        row.get_by_role("button", name="label map").click()
    assert download.value.suggested_filename == "ball0_seg.nii.gz"
    content = gzip.decompress(download.value.path().read_bytes())
    found = np.asarray(nib.Nifti1Image.from_bytes(content).dataobj)
    assert np.array_equal(found, Segmenter(tiny).segment(image).numpy()[0])
    row.get_by_role("button", name="remove").click()
    row.wait_for(state="detached")
    page.set_input_files("#files input >> nth=0", [])
    page.click("#send")
    assert page.locator("#said").text_content() == "Choose an image first."


def test_a_record_that_could_not_be_fetched_is_asked_for_again(server, page, image):
    page.route("**/record", lambda route: route.abort(), times=1)
    page.goto(server.address)
    page.select_option("#bundle", "tiny_bundle")
    page.set_input_files("#files input >> nth=0", image)
    page.click("#send")
    row = page.locator("#jobs tr", has_text="ball0.nii.gz")
    row.locator(".done").wait_for()
    row.get_by_role("button", name="remove").click()
    row.wait_for(state="detached")


@pytest.mark.data
def test_a_folder_of_dicom_is_zipped_in_the_browser(server, page, data_root, tmp_path):
    page.goto(server.address)
    page.select_option("#bundle", "hippocampus_unet")
    folder = tmp_path / "study"
    shutil.copytree(data_root / "dicom_series" / "mr_hippocrop_a" / "dicom", folder)
    page.set_input_files("#files input >> nth=1", folder)
    page.get_by_label("DICOM SEG").check()
    page.click("#send")
    row = page.locator("#jobs tr", has_text="study")
    row.locator(".done").wait_for()
    with page.expect_download() as download:
        row.get_by_role("button", name="SEG").click()
    assert download.value.suggested_filename == "study_seg.dcm"
    # The next image is segmented as this one was, and is not this one.
    assert page.input_value("#bundle") == "hippocampus_unet"
    assert page.locator("#formats input[value=dicom-seg]").is_checked()
    chosen = "[...document.querySelectorAll('#files input')].map(input => input.files.length)"
    assert page.evaluate(chosen) == [0, 0]
    assert download.value.path().read_bytes()[128:132] == b"DICM"


def test_what_is_refused_is_said(server, page, tmp_path):
    page.goto(server.address)
    (tmp_path / "notes.nii.gz").write_text("<img src=x onerror=alert(1)>")
    page.set_input_files("#files input >> nth=0", tmp_path / "notes.nii.gz")
    page.evaluate("window.addEventListener('unhandledrejection', e => console.error(e))")
    with page.expect_response("**/v1/jobs") as answer:
        page.click("#send")
    assert answer.value.status == 422
    page.locator("#said", has_text="no known format").wait_for()


def test_a_token_is_asked_for(serve_here, page):
    page.goto(str(serve_here(token=_TOKEN).base_url))
    page.fill("#token", "guess")
    page.get_by_role("button", name="Sign in").click()
    page.locator("#wrong", has_text="not the token").wait_for()
    assert page.locator("#asking").is_hidden()
    page.fill("#token", _TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#asking").wait_for()
    assert page.locator("#signing").is_hidden()
