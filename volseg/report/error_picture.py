"""Where a prediction is wrong: the plane with the most wrong voxels, with both outlines on it.

The reference is an area, the prediction a line, each in the colour of the class: area outside of
the line was missed, a line outside of the area was invented. They are drawn as vectors along the
edges of voxels, so that nothing is smoothed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import uniform_filter

from volseg.evaluation import Label, PairOfMaps, values_of
from volseg.report.planes import Plane, differing_plane, window
from volseg.report.structure_colors import structure_colors

Array = npt.NDArray[Any]

_MOST_PIXELS = 320
# Of more voxels a side, the part is shown where most of them are wrong: edges stay apart.
_MOST_VOXELS = 256
_LEAST_MARGIN = 6
_MARGIN = 0.35


@dataclass(frozen=True)
class Outline:
    """One class in a picture, as paths in pixels of the plane."""

    name: str
    color: str
    area: str
    line: str


@dataclass(frozen=True)
class ErrorPicture:
    """A plane of a case.

    Attributes:
        title: Which plane.
        columns: Width in voxels.
        rows: Height in voxels.
        width_mm: Of the plane, as is
        height_mm: its height.
        image: Base64 of a JPEG; None if there is no image.
        outlines: Of the classes.
        edges: Letters of the patient's sides.
    """

    title: str
    columns: int
    rows: int
    width_mm: float
    height_mm: float
    image: str | None
    outlines: list[Outline]
    edges: tuple[str, ...]


def error_picture(
    maps: PairOfMaps, image: Array | None, labels: Mapping[str, Label]
) -> ErrorPicture:
    """Return the plane of a case in which the most voxels of some classes are wrong.

    Args:
        maps: The two label maps.
        image: ``(channels, x, y, z)`` or ``(channels, x, y)`` on their grid, of one or three
            channels.
        labels: The structures to show, by name.
    """
    structures = {name: values_of(label) for name, label in labels.items()}
    all_values = [value for values in structures.values() for value in values]
    shown = [
        np.where(np.isin(one, all_values), one, 0) for one in (maps.prediction, maps.reference)
    ]
    values = np.zeros((1, *maps.grid.shape), np.uint8) if image is None else image
    plane, reference = differing_plane(values, shown[0], shown[1], maps.grid.affine)
    place = _around(plane.labels, reference)
    prediction, truth = plane.labels[place], reference[place]
    heights = plane.size_mm[0] / plane.labels.shape[0], plane.size_mm[1] / plane.labels.shape[1]
    rows, columns = prediction.shape
    colors = structure_colors(labels)
    outlines = [
        Outline(
            name,
            colors[name],
            _area(np.isin(truth, values)),
            _line(np.isin(prediction, values)),
        )
        for name, values in structures.items()
    ]
    return ErrorPicture(
        title=plane.title,
        columns=columns,
        rows=rows,
        width_mm=columns * heights[1],
        height_mm=rows * heights[0],
        image=None if image is None else _jpeg(plane, place, window(values)),
        outlines=[outline for outline in outlines if outline.area or outline.line],
        edges=plane.edges,
    )


def _around(first: Array, second: Array) -> tuple[slice, slice]:
    """Return the part of a plane around what is labelled in either map; all if nothing is.

    What is larger than a picture can show is cut to where the two differ most.
    """
    labelled = (first != 0) | (second != 0)
    wrong = uniform_filter((first != second).astype(np.float32), _MOST_VOXELS, mode="constant")
    worst = np.unravel_index(int(wrong.argmax()), wrong.shape)
    found = []
    for axis in (0, 1):
        places = np.flatnonzero(labelled.any(axis=1 - axis))
        size = labelled.shape[axis]
        if not len(places):
            found.append(slice(0, size))
            continue
        start, stop = int(places[0]), int(places[-1]) + 1
        margin = max(_LEAST_MARGIN, round(_MARGIN * (stop - start)))
        start, stop = max(0, start - margin), min(size, stop + margin)
        if stop - start > _MOST_VOXELS:
            start = min(max(start, int(worst[axis]) - _MOST_VOXELS // 2), stop - _MOST_VOXELS)
            stop = start + _MOST_VOXELS
        found.append(slice(start, stop))
    return found[0], found[1]


def _jpeg(plane: Plane, place: tuple[slice, slice], ends: tuple[float, float]) -> str:
    low, high = ends
    values = plane.image[place].astype(np.float64)
    scaled = (np.nan_to_num(values, nan=low) - low) / ((high - low) or 1)
    grey = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(grey[..., 0] if grey.shape[-1] == 1 else grey)
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=85, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _area(mask: Array) -> str:
    """Return a path that covers the pixels of a mask, a rectangle for each run of a row."""
    return "".join(
        f"M{start} {row}h{stop - start}v1h{start - stop}z" for row, start, stop in _runs(mask)
    )


def _line(mask: Array) -> str:
    """Return the path along the edges of the pixels of a mask."""
    padded = np.pad(mask, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    along = (padded[1:-1, 1:] != padded[1:-1, :-1]).T
    horizontal = "".join(f"M{start} {row}h{stop - start}" for row, start, stop in _runs(across))
    return horizontal + "".join(
        f"M{column} {start}v{stop - start}" for column, start, stop in _runs(along)
    )


def _runs(mask: Array) -> list[tuple[int, int, int]]:
    """Return the row, first column and one past the last column of each run of a mask."""
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, stops = np.nonzero(steps == -1)
    return list(zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True))
