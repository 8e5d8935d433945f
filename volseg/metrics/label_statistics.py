"""What a label map holds: size, place, surface and intensities of each structure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError
from volseg.geometry import Affine, Grid
from volseg.metrics.label_intensities import InChannels, label_intensities
from volseg.metrics.label_shapes import LabelShape, label_shapes
from volseg.metrics.labelled_part import MOST_LABELS, LabelledPart


@dataclass(frozen=True)
class LabelStatistics:
    """Size, place and intensities of one label; what does not exist for it is None.

    Attributes:
        label: Its value.
        name: What it stands for.
        voxels: How many there are.
        volume_mm3: Volume in mm³; None in 2D.
        volume_ml: Volume in mL; None in 2D.
        area_mm2: Area in mm², or in pixels for a picture, which has no size in the world; None in
            3D.
        surface_mm2: Area of the surface in mm² as `volseg.metrics.label_shapes` estimates it; None
            in 2D.
        perimeter_mm: Length of the outline in mm, likewise; None in 3D.
        centroid_mm: Mean position of the voxel centres in RAS+ mm; None for an empty label.
        low_mm: Lowest RAS+ coordinates in mm of the bounding box, to the edges of its voxels; the
            box is parallel to the axes of the image.
        high_mm: Highest ones, likewise.
        first_voxel: Lowest index of the bounding box on each axis.
        last_voxel: Highest index of the bounding box on each axis, still inside the label.
        intensities: In each channel of the image; empty without one.
    """

    label: int
    name: str
    voxels: int
    volume_mm3: float | None
    volume_ml: float | None
    area_mm2: float | None
    surface_mm2: float | None
    perimeter_mm: float | None
    centroid_mm: tuple[float, ...] | None
    low_mm: tuple[float, ...] | None
    high_mm: tuple[float, ...] | None
    first_voxel: tuple[int, ...] | None
    last_voxel: tuple[int, ...] | None
    intensities: InChannels


@dataclass(frozen=True)
class VolumeStatistics:
    """What is measured of an image and its label map.

    Attributes:
        labels: By rising value.
        image: Intensities of all voxels, in each channel.
    """

    labels: tuple[LabelStatistics, ...]
    image: InChannels


def label_statistics(
    labels: npt.ArrayLike,
    affine: Affine | npt.ArrayLike,
    *,
    image: npt.ArrayLike | None = None,
    names: Mapping[int, str] | None = None,
) -> list[LabelStatistics]:
    """Return the statistics of each label, by rising value.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        affine: Map from voxel indices to RAS+ mm, with as many axes as the label map.
        image: `(channels, x, y, z)` or `(channels, x, y)`, for intensities.
        names: Names by value. A named label that is not in the map gets a row with 0 voxels, one
            without a name is called by its number.

    Raises:
        InputError: The values are not integers, or not from 0 to 65535.
        GeometryError: The affine does not suit the label map.
        ShapeError: The image has another shape.
    """
    array = np.asarray(labels)
    lowest, highest = (array.min(), array.max()) if array.size else (0, 0)
    if array.dtype.kind not in "biu" or lowest < 0 or highest > MOST_LABELS:
        raise InputError(
            f"the label map holds {array.dtype} from {lowest} to {highest}; expected integers from "
            f"0 (background) to {MOST_LABELS}."
        )
    array = array.astype(np.uint16, copy=False)
    grid = Grid(array.shape, affine if isinstance(affine, Affine) else Affine(affine))
    values = np.empty((0, *array.shape), np.float32)
    if image is not None:
        values = np.asarray(image)
        if values.shape[1:] != array.shape:
            raise ShapeError(
                f"the image has the shape {values.shape} and the label map {array.shape}; expected "
                "one shape, after the axis of channels of the image."
            )
        values = values.astype(np.float32, copy=False)

    def walk() -> Iterable[LabelledPart]:
        yield LabelledPart(0, 0, array, [*values])

    return [*volume_statistics(walk, walk, grid, channels=len(values), names=names).labels]


def volume_statistics(
    label_walk: Callable[[], Iterable[LabelledPart]],
    image_walk: Callable[[], Iterable[LabelledPart]],
    grid: Grid,
    *,
    channels: int,
    names: Mapping[int, str] | None = None,
) -> VolumeStatistics:
    """Return the statistics of a volume that arrives in parts: the same in whatever parts.

    Args:
        label_walk: Begins to go over the label map; called once.
        image_walk: Begins to go over the image with its labels, channel by channel or all of them
            together; called two or three times.
        grid: Of both.
        channels: Of the image; none leaves intensities out.
        names: As for `label_statistics`.
    """
    names = {value: name for value, name in (names or {}).items() if value != 0}
    shapes = label_shapes(label_walk(), grid)
    present = [*shapes]
    intensities = label_intensities(image_walk, present, channels) if channels else {}
    nothing: InChannels = (None,) * channels
    rows = (
        _row(
            label,
            names.get(label, str(label)),
            shapes.get(label),
            grid,
            intensities.get(label, nothing),
        )
        for label in sorted({*shapes, *names})
    )
    return VolumeStatistics(tuple(rows), intensities.get(0, nothing))


def _row(
    label: int, name: str, shape: LabelShape | None, grid: Grid, intensities: InChannels
) -> LabelStatistics:
    solid = len(grid.shape) == 3
    size = 0.0 if shape is None else shape.voxels * grid.voxel_volume
    surface = 0.0 if shape is None else shape.surface
    low, high = (None, None) if shape is None else _box(shape, grid)
    centroid = None if shape is None else grid.affine.apply(np.array(shape.centroid))
    return LabelStatistics(
        label=label,
        name=name,
        voxels=0 if shape is None else shape.voxels,
        volume_mm3=size if solid else None,
        volume_ml=size / 1000 if solid else None,
        area_mm2=None if solid else size,
        surface_mm2=surface if solid else None,
        perimeter_mm=None if solid else surface,
        centroid_mm=None if centroid is None else tuple(centroid.tolist()),
        low_mm=low,
        high_mm=high,
        first_voxel=None if shape is None else shape.first,
        last_voxel=None if shape is None else shape.last,
        intensities=intensities,
    )


def _box(shape: LabelShape, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the lowest and the highest world coordinates of a box of voxels, edges included."""
    sides = [(a - 0.5, b + 0.5) for a, b in zip(shape.first, shape.last, strict=True)]
    corners = grid.affine.apply(np.array([*itertools.product(*sides)]))
    return tuple(corners.min(axis=0).tolist()), tuple(corners.max(axis=0).tolist())
