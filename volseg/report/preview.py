"""A picture to judge a segmentation at a glance: three planes, coloured labels, volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from monai.data import MetaTensor
from PIL import Image, ImageDraw, ImageFont

from volseg.atomic import replacing
from volseg.errors import OutputError
from volseg.io import grid_of, on_source_grid
from volseg.label_colors import label_color
from volseg.metrics import LabelStatistics, label_statistics
from volseg.report.planes import Plane, paint, telling_planes, window

_WIDTH, _HEIGHT = 1200, 500
_MARGIN = 20
_LEGEND_WIDTH = 240
_LINE = 24
_BACKGROUND = (18, 20, 24)
_TEXT = (225, 228, 232)
_FAINT = (140, 146, 155)


def write_preview(
    image: MetaTensor,
    labels: MetaTensor | npt.NDArray[Any],
    path: str | Path,
    *,
    names: Mapping[int, str] | None = None,
) -> None:
    """Write the picture of a segmentation (`preview_picture`) as PNG.

    Args:
        image: As for `preview_picture`, as are
        labels: and
        names: too.
        path: The `.png` file to write; it appears whole or not at all.

    Raises:
        OutputError: The name does not end in `.png`, or the file cannot be written.
        VolsegError: What `preview_picture` raises.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path} cannot hold a preview; expected a name that ends in .png.")
    picture = preview_picture(image, labels, names=names)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def preview_picture(
    image: MetaTensor,
    labels: MetaTensor | npt.NDArray[Any],
    *,
    names: Mapping[int, str] | None = None,
) -> Image.Image:
    """Return a picture of 1200 x 500 pixels that shows a segmentation on its image.

    A volume is shown in the axial, coronal and sagittal plane with the largest labelled area, all
    at one scale in millimetres, as radiologists look at it: the patient's right on the left. The
    letters at the edges name the sides. A 2D image is shown in one panel as it is stored, x to the
    right and y downwards.
    Grey values span the 1st to the 99th percentile.

    Args:
        image: `(channels, x, y, z)` or `(channels, x, y)`. A 2D image of three or four channels is
            shown in colour; of others the first channel is shown.
        labels: Integer classes on the same grid, 0 is background; with or without a channel axis.
        names: Names by value, for the legend.

    Raises:
        ShapeError: The label map does not have the shape of the image.
        GeometryError: The label map lies on another grid than the image.
        InputError: The values of the label map are not labels.
    """
    grid = grid_of(image)
    label_map = on_source_grid(labels, image).as_tensor().numpy()[0]
    values = image.as_tensor().detach().cpu().numpy()
    in_colour = len(grid.shape) == 2 and values.shape[0] in (3, 4)
    values = values[: 3 if in_colour else 1]
    planes = telling_planes(values, label_map, grid.affine)
    rows = label_statistics(label_map, grid.affine, names=names)
    return draw_preview(planes, rows, window=window(values))


def draw_preview(
    planes: Sequence[Plane], rows: Sequence[LabelStatistics], *, window: tuple[float, float]
) -> Image.Image:
    """Return the picture of some planes side by side, with a legend on the right.

    Args:
        planes: Result of `telling_planes`.
        rows: What the legend lists.
        window: Values that become black and white.
    """
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    free_width = _WIDTH - _LEGEND_WIDTH - (len(planes) + 2) * _MARGIN
    free_height = _HEIGHT - 2 * _MARGIN - _LINE
    # One scale for all planes: a structure is as wide in the coronal as in the axial plane.
    scale = min(
        free_width / sum(plane.size_mm[1] for plane in planes),
        free_height / max(plane.size_mm[0] for plane in planes),
    )
    sizes = [tuple(max(1, round(length * scale)) for length in plane.size_mm) for plane in planes]
    left = _MARGIN + (free_width - sum(width for _, width in sizes)) // 2
    for plane, (height, width) in zip(planes, sizes, strict=True):
        top = _MARGIN + (free_height - height) // 2
        painted = paint(plane, height, width, low=window[0], high=window[1])
        picture.paste(Image.fromarray(painted), (left, top))
        _draw_letters(draw, plane, (left, top, left + width, top + height))
        draw.text(
            (left + width / 2, top + height + _LINE / 2 + 2),
            plane.title,
            fill=_FAINT,
            font=ImageFont.load_default(15),
            anchor="mm",
        )
        left += width + _MARGIN
    _draw_legend(draw, rows, _WIDTH - _LEGEND_WIDTH - _MARGIN)
    return picture


def _draw_letters(draw: ImageDraw.ImageDraw, plane: Plane, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    across, down, inset = (left + right) / 2, (top + bottom) / 2, 5
    places = (
        (left + inset, down, "lm"),
        (right - inset, down, "rm"),
        (across, top + inset, "mt"),
        (across, bottom - inset, "mb"),
    )
    for letter, (x, y, anchor) in zip(plane.edges, places, strict=False):
        draw.text(
            (x, y),
            letter,
            fill=_TEXT,
            font=ImageFont.load_default(16),
            anchor=anchor,
            stroke_width=2,
            stroke_fill=_BACKGROUND,
        )


def _draw_legend(draw: ImageDraw.ImageDraw, rows: Sequence[LabelStatistics], left: int) -> None:
    font = ImageFont.load_default(15)
    room = (_HEIGHT - 2 * _MARGIN) // _LINE
    shown = list(rows)
    if len(rows) > room:
        largest = sorted(rows, key=lambda row: -row.voxels)[: room - 1]
        shown = [row for row in rows if row in largest]
    lines = len(shown) + (len(shown) < len(rows)) or 1
    y = (_HEIGHT - lines * _LINE) / 2 + _LINE / 2
    right = _WIDTH - _MARGIN
    for row in shown:
        draw.rounded_rectangle((left, y - 7, left + 14, y + 7), 3, fill=label_color(row.label))
        size = _size(row)
        draw.text((right, y), size, fill=_FAINT, font=font, anchor="rm")
        free = right - left - 24 - font.getlength(size) - 10
        draw.text((left + 24, y), _shortened(row.name, font, free), _TEXT, font, anchor="lm")
        y += _LINE
    if len(shown) < len(rows):
        draw.text((left + 24, y), f"and {len(rows) - len(shown)} more", _FAINT, font, anchor="lm")
    if not rows:
        draw.text((left, y), "nothing segmented", _FAINT, font, anchor="lm")


def _size(row: LabelStatistics) -> str:
    if row.voxels == 0:
        return "not found"
    if row.volume_ml is not None:
        return f"{row.volume_ml:,.1f} mL" if row.volume_ml >= 10 else f"{row.volume_ml:.3g} mL"
    return f"{row.voxels:,} pixels"


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
