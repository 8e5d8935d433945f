"""The planes of a volume that tell most about a segmentation, as upright pictures.

Volumes are brought to RAS+ axes first, so that the picture does not depend on how they are
stored. They are shown as radiologists look at them: the patient's right (in the sagittal plane
the front) on the left, the front or the head on top; the letters at the edges say so. Pictures
of two axes have no patient's sides and are shown as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from volseg.geometry import Affine, Grid, reorientation
from volseg.label_colors import label_color

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]

_PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
# Spacings that differ by less are one.
_EQUAL = 0.01
_FILL_OPACITY = 0.35
_CONTOUR_PIXELS = 2
# Enough values for percentiles; reading all of a large scan would take longer than drawing it.
_WINDOW_VALUES = 2_000_000


@dataclass(frozen=True)
class Plane:
    """One plane, rows from top to bottom and columns from left to right."""

    title: str
    image: Array
    """Values of `(rows, columns, channels)` with one or three channels."""
    labels: Array
    """Labels of `(rows, columns)`."""
    size_mm: tuple[float, float]
    """Height and width of the plane in mm."""
    edges: tuple[str, ...]
    """Letters of the patient's sides: left, right, top, bottom of the picture; none in 2D."""


def telling_planes(image: Array, labels: Array, affine: Affine) -> list[Plane]:
    """Return the axial, coronal and sagittal plane with the largest labelled area each.

    Of planes with equal areas the middle one is taken, and the middle of the volume where nothing
    is labelled. A 2D image gives one plane, x to the right and y downwards.

    Args:
        image: One or three channels, `(channels, x, y)` or `(channels, x, y, z)`.
        labels: Integer classes on the same grid, without the channel axis.
        affine: Map from voxel indices to RAS+ mm.
    """
    if labels.ndim == 2:
        return [_picture(image, labels, affine)]
    image, labels, grid = _upright(image, labels, affine)
    foreground = labels != 0
    planes = []
    for name, across in _PLANES:
        inside = tuple(axis for axis in range(3) if axis != across)
        index = _middle_of_largest(np.count_nonzero(foreground, axis=inside))
        planes.append(_plane(name, image, labels, grid, across=across, index=index))
    return planes


def differing_plane(
    image: Array, labels: Array, others: Array, affine: Affine
) -> tuple[Plane, Array]:
    """Return the plane in which most voxels of two label maps differ, and the others' labels in it.

    It is of the planes in which the image was acquired, which lie farthest apart; axial of equals.

    Args:
        image: One or three channels, `(channels, x, y)` or `(channels, x, y, z)`.
        labels: Integer classes on the same grid, without the channel axis.
        others: Of the same shape.
        affine: Map from voxel indices to RAS+ mm.
    """
    if labels.ndim == 2:
        return _picture(image, labels, affine), others.T
    image, labels, grid = _upright(image, labels, affine)
    others = reorientation(affine, "RAS").apply(others)
    thickest = max(grid.spacing)
    name, across = next(
        plane for plane in _PLANES if grid.spacing[plane[1]] >= thickest * (1 - _EQUAL)
    )
    inside = tuple(axis for axis in range(3) if axis != across)
    differing = np.count_nonzero(labels != others, axis=inside)
    if not differing.any():
        differing = np.count_nonzero(labels, axis=inside)
    index = _middle_of_largest(differing)
    plane = _plane(name, image, labels, grid, across=across, index=index)
    return plane, _turned(others.take(index, axis=across))


def window(image: Array) -> tuple[float, float]:
    """Return the 1st and 99th percentile of the finite values of an image.

    Large images are sampled at regular steps along each axis.
    """
    step = max(1, int(np.ceil((image.size / _WINDOW_VALUES) ** (1 / (image.ndim - 1)))))
    values = image[(slice(None), *[slice(None, None, step)] * (image.ndim - 1))]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (1, 99))
    if low == high:  # nearly constant, as a mask or a sparse image: show the whole range
        low, high = values.min(), values.max()
    return float(low), float(high)


def paint(plane: Plane, height: int, width: int, *, low: float, high: float) -> Picture:
    """Return a plane as red, green and blue: grey values, tinted labels, solid contours.

    Args:
        plane: What to paint.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        low: Value that becomes black.
        high: Value that becomes white.
    """
    scaled = (np.nan_to_num(plane.image.astype(np.float64), nan=low) - low) / ((high - low) or 1)
    grey = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    grey = np.broadcast_to(grey, (*grey.shape[:2], 3))
    smooth = Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC)
    picture = np.array(smooth, dtype=np.float64)
    # Labels keep their voxels: smoothing them would show what was not segmented.
    rows = (np.arange(height) + 0.5) * plane.labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * plane.labels.shape[1] / width
    labels = plane.labels[np.ix_(rows.astype(int), columns.astype(int))].astype(np.int64)
    values, places = np.unique(labels, return_inverse=True)
    colors = np.array([label_color(int(value)) for value in values], dtype=np.float64)[places]
    size = 2 * _CONTOUR_PIXELS + 1
    contour = maximum_filter(labels, size) != minimum_filter(labels, size)
    opacity = np.where(labels == 0, 0.0, np.where(contour, 1.0, _FILL_OPACITY))[..., None]
    painted: Picture = np.round(picture * (1 - opacity) + colors * opacity).astype(np.uint8)
    return painted


def _picture(image: Array, labels: Array, affine: Affine) -> Plane:
    width, height = Grid(labels.shape, affine).extent
    return Plane("", image.transpose(2, 1, 0), labels.T, (height, width), ())


def _upright(image: Array, labels: Array, affine: Affine) -> tuple[Array, Array, Grid]:
    turn = reorientation(affine, "RAS")
    grid = Grid(turn.apply_to_shape(labels.shape), turn.apply_to_affine(affine, labels.shape))
    return turn.apply(image), turn.apply(labels), grid


def _plane(name: str, image: Array, labels: Array, grid: Grid, *, across: int, index: int) -> Plane:
    middle = [(size - 1) / 2 for size in grid.shape]
    middle[across] = index
    position = float(grid.affine.apply(middle)[across])
    letter = Affine.WORLD_AXES[across][int(position >= 0)]
    columns, up = (axis for axis in range(3) if axis != across)
    (right, left), (bottom, top) = Affine.WORLD_AXES[columns], Affine.WORLD_AXES[up]
    return Plane(
        title=f"{name}  {letter} {abs(position):.1f} mm",
        image=image.take(index, axis=across + 1).transpose(2, 1, 0)[::-1, ::-1],
        labels=_turned(labels.take(index, axis=across)),
        size_mm=(grid.extent[up], grid.extent[columns]),
        edges=(left, right, top, bottom),
    )


def _turned(labels: Array) -> Array:
    return labels.T[::-1, ::-1]


def _middle_of_largest(areas: npt.NDArray[np.int64]) -> int:
    largest = np.flatnonzero(areas == areas.max())
    return int(largest[len(largest) // 2])
