"""The page of a case in a browser without a network: what is shown is where it is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from volseg.label_colors import label_color
from volseg.report import find_records, write_report

from .conftest import offline_page, write_case

# Stored from right to left and from back to front, with voxels of three sizes.
AFFINE = np.diag([-1.5, 1.0, 2.0, 1.0])
AFFINE[:3, 3] = (45, -40, -30)
# A liver on the patient's right, in front; a spleen on the left, at the back.
BOXES = {
    1: (slice(6, 22), slice(46, 70), slice(10, 24)),
    2: (slice(44, 54), slice(10, 26), slice(8, 20)),
}


def label_map() -> np.ndarray:
    labels = np.zeros((60, 80, 30), np.uint8)
    for value, box in BOXES.items():
        labels[box] = value
    return labels


def centre_mm(value: int) -> list[float]:
    middle = [(part.start + part.stop - 1) / 2 for part in BOXES[value]]
    return (AFFINE @ [*middle, 1])[:3].tolist()


def opened(page: Any, path: Path) -> dict[str, Any]:
    """Open a page, wait until it shows everything, and return where its planes lie."""
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    assert page.evaluate("[document.body.dataset.ready, document.body.dataset.error]") == [
        "true",
        None,
    ]
    tiles: dict[str, Any] = page.evaluate(
        "Object.fromEntries(volseg.planes.screenSlices.map(s => "
        "[['axial', 'coronal', 'sagittal'][s.axCorSag], s.leftTopWidthHeight]))"
    )
    return tiles


def picture(page: Any, canvas: str) -> np.ndarray:
    shot = page.locator(canvas).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def is_of_color(pixels: np.ndarray, label: int) -> np.ndarray:
    """Say where pixels have the hue of a label, whatever grey shines through."""
    color = np.array(label_color(label), float)
    away = pixels - pixels.mean(axis=-1, keepdims=True)
    wanted = color - color.mean()
    along = away @ wanted / np.linalg.norm(wanted)
    return (along > 25) & (along > 0.95 * np.linalg.norm(away, axis=-1))


@pytest.fixture(scope="module")  # the picture of a volume takes seconds without a graphics card
def shown(
    browser: Any, viewer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The page of a case, opened once, and where its planes lie; what is hidden is shown again."""
    folder = tmp_path_factory.mktemp("shown")
    record = write_case(folder, label_map(), AFFINE)
    write_report(find_records([record.parent]), folder / "report", viewer=viewer)
    with offline_page(browser) as page:
        yield page, opened(page, folder / "report" / "case.html")


def test_labels_are_shown_where_they_are_and_a_click_goes_there(shown, tmp_path):
    page, tiles = shown
    page.screenshot(path=tmp_path / "case.png", full_page=True)
    # The page opens at the middle of the largest structure.
    assert json.loads(page.get_attribute("#place", "data-mm")) == pytest.approx(centre_mm(1), abs=2)
    assert page.inner_text("#place").endswith(": liver")
    left, top, width, height = tiles["axial"]
    # Of the field of 90 x 80 mm, the patient's right on the left and the front on top.
    x, y, _ = centre_mm(1)
    middle = ((45.75 - x) / 90 * width + left, (39.5 - y) / 80 * height + top)
    shot = picture(page, "#planes")
    found = is_of_color(shot, 1)
    inside = found[round(top) : round(top + height), round(left) : round(left + width)]
    rows, columns = np.nonzero(inside)
    assert (columns.mean() + left, rows.mean() + top) == pytest.approx(middle, abs=4)
    expected = 24 * 24 / (90 * 80)  # 16 voxels of 1.5 mm by 24 of 1 mm
    assert inside.mean() == pytest.approx(expected, rel=0.25)
    # A click on the spleen in the axial plane moves two coordinates.
    x, y, _ = centre_mm(2)
    canvas = page.locator("#planes").bounding_box()
    goal = ((45.75 - x) / 90 * width + left, (39.5 - y) / 80 * height + top)
    page.mouse.click(canvas["x"] + goal[0], canvas["y"] + goal[1])
    mm = json.loads(page.get_attribute("#place", "data-mm"))
    assert mm[:2] == pytest.approx([x, y], abs=2)
    assert mm[2] == pytest.approx(centre_mm(1)[2], abs=2)
    assert page.inner_text("#place").endswith(": spleen")


def test_structures_are_shown_in_3d_and_can_be_hidden(shown):
    page, _ = shown
    solid = picture(page, "#solid")
    both = [is_of_color(solid, label).mean() for label in (1, 2)]
    assert min(both) > 0.005
    # The liver on the patient's right, which is on the left.
    columns = [np.nonzero(is_of_color(solid, label))[1].mean() for label in (1, 2)]
    assert columns[0] < columns[1]
    page.uncheck("input[data-label='1']")
    page.wait_for_timeout(300)
    assert is_of_color(picture(page, "#solid"), 1).mean() == 0
    assert is_of_color(picture(page, "#planes"), 1).mean() == 0
    assert is_of_color(picture(page, "#solid"), 2).mean() > 0.005
    page.check("input[data-label='1']")


def test_statistics_and_how_it_was_made_are_there_and_it_prints(shown):
    page, _ = shown
    cells = page.locator("#statistics tbody tr").first.inner_text().split("\t")
    assert cells[:2] == ["liver", "16.13"]  # 16 x 24 x 14 voxels of 3 mm³
    assert "Phantom U-Net 0.1.0" in page.inner_text("header")
    assert "Nothing stands out." in page.inner_text("main")
    assert not page.is_visible("#preview")
    page.emulate_media(media="print")
    assert page.is_visible("#preview")
    assert not page.is_visible("#viewer")
    page.emulate_media(media="screen")


def test_hostile_names_are_shown_and_not_run(page, make_case, tmp_path, viewer):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    record = make_case(label_map(), AFFINE, case=evil, names={1: evil, 2: "'\"><b>"})
    write_report(find_records([record]), tmp_path / "report", viewer=viewer)
    page.set_viewport_size({"width": 480, "height": 360})  # fewer pixels to compute
    opened(page, tmp_path / "report" / "case.html")
    assert page.inner_text("h1") == evil
    assert page.locator("#statistics tbody th").first.inner_text() == evil
    page.goto((tmp_path / "report" / "index.html").as_uri())
    assert page.inner_text("#cases tbody th") == evil
    assert page.locator("img[src=x], b").count() == 0


def test_without_the_viewer_a_picture_is_shown_and_how_to_get_more(page, make_case, tmp_path):
    record = make_case(label_map(), AFFINE)
    write_report(find_records([record]), tmp_path / "report")
    page.goto((tmp_path / "report" / "case.html").as_uri())
    assert page.is_visible("#preview")
    assert page.evaluate("document.getElementById('preview').naturalWidth") == 1200
    assert "volseg report --fetch-viewer" in page.inner_text("main")


def test_a_picture_is_shown_as_one(page, make_case, tmp_path, viewer):
    labels = np.zeros((40, 30), np.uint8)
    labels[5:15, 6:20] = 1
    record = make_case(labels, np.eye(3))
    write_report(find_records([record]), tmp_path / "report", viewer=viewer)
    page.goto((tmp_path / "report" / "case.html").as_uri())
    assert page.is_visible("#preview")
    assert "140" in page.locator("#statistics tbody tr").first.inner_text()
    headings = page.locator("#statistics thead").text_content()
    assert "box, pixels" in headings
    assert "mm" not in headings
    assert "fetch-viewer" not in page.inner_text("main")
