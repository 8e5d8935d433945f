"""Where a prediction is wrong."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from volseg.evaluation import PairOfMaps
from volseg.geometry import Affine, Grid
from volseg.label_colors import html_color
from volseg.report.error_picture import error_picture


def maps(prediction: np.ndarray, reference: np.ndarray, steps: tuple[float, ...]) -> PairOfMaps:
    affine = Affine(np.diag([*steps, 1.0]))
    return PairOfMaps(prediction, reference, Grid(reference.shape, affine))


def painted(path: str, rows: int, columns: int) -> np.ndarray:
    """What a path of rectangles covers."""
    picture = Image.new("1", (columns, rows))
    draw = ImageDraw.Draw(picture)
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
        draw.rectangle((int(x), int(y), int(x) + int(width) - 1, int(y)), fill=1)
    return np.asarray(picture)


def test_the_plane_with_the_most_wrong_voxels_is_shown():
    reference = np.zeros((30, 40, 8), np.uint8)
    reference[10:20, 12:30, 1:7] = 1
    prediction = reference.copy()
    prediction[10:14, :, 5] = 0
    prediction[10, 12, 2] = 0
    image = np.random.default_rng(0).normal(size=(1, 30, 40, 8)).astype(np.float32)
    found = error_picture(maps(prediction, reference, (1, 1, 4)), image, {"box": 1})
    assert found.title == "axial  S 20.0 mm"
    assert (found.width_mm, found.height_mm) == (found.columns, found.rows)
    assert found.edges == ("R", "L", "A", "P")
    with Image.open(io.BytesIO(base64.b64decode(found.image))) as picture:
        assert picture.size == (found.columns, found.rows)
    (outline,) = found.outlines
    area = painted(outline.area, found.rows, found.columns)
    assert area.sum() == 10 * 18
    assert area.any(axis=1).sum() == 18  # front to back is up
    # The line runs along the edges of the prediction: 6 x 18 pixels.
    lengths = [int(one) for one in re.findall(r"[hv](\d+)", outline.line)]
    assert sum(lengths) == 2 * (6 + 18)


def test_the_acquired_plane_is_shown_and_an_equal_case_where_it_is_largest():
    reference = np.zeros((20, 8, 20), np.uint8)
    reference[5:15, 3:5, 5:15] = 2
    reference[2:18, 4, 5:15] = 2
    found = error_picture(maps(reference, reference, (1, 5, 1)), None, {"cross": 2})
    assert found.title == "coronal  A 20.0 mm"
    assert found.image is None
    assert [outline.name for outline in found.outlines] == ["cross"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shown_too(channels):
    reference = np.zeros((30, 20), np.uint8)
    reference[5:10, 4:18] = 1
    image = np.random.default_rng(0).integers(0, 255, (channels, 30, 20)).astype(np.uint8)
    found = error_picture(maps(np.zeros_like(reference), reference, (1, 1)), image, {"box": 1})
    (outline,) = found.outlines
    assert outline.line == ""
    assert painted(outline.area, found.rows, found.columns).sum() == reference.sum()
    with Image.open(io.BytesIO(base64.b64decode(found.image))) as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")


def test_of_a_large_plane_the_part_with_most_errors_is_shown():
    reference = np.zeros((600, 500), np.uint8)
    reference[10:590, 10:490] = 1
    prediction = reference.copy()
    prediction[500:560, 20:60] = 0
    found = error_picture(maps(prediction, reference, (1, 1)), None, {"sheet": 1})
    assert (found.columns, found.rows) == (256, 256)
    (outline,) = found.outlines
    # All around the hole, and the left edge of the sheet or more.
    lengths = [int(one) for one in re.findall(r"[hv](\d+)", outline.line)]
    assert sum(lengths) >= 2 * (60 + 40) + 240


def test_nothing_labelled_shows_the_whole_plane():
    empty = np.zeros((6, 5, 4), np.uint8)
    found = error_picture(maps(empty, empty, (1, 1, 1)), None, {"box": 1})
    assert (found.columns, found.rows, found.outlines) == (6, 5, [])


def test_regions_within_each_other_have_colours_of_their_own():
    reference = np.zeros((20, 20), np.uint8)
    reference[4:16, 4:16], reference[6:12, 6:12], reference[8:10, 8:10] = 1, 2, 3
    regions = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": 3}
    found = error_picture(maps(reference, reference, (1, 1)), None, regions)
    whole, core, enhancing = found.outlines
    sizes = [painted(one.area, found.rows, found.columns).sum() for one in found.outlines]
    assert sizes == [144, 144 - 36 + 4, 4]
    assert len({whole.color, core.color, enhancing.color}) == 3
    assert enhancing.color == html_color(3)
