"""What a label map holds: voxels, volume, centre and extent of each structure."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.geometry import Affine, Grid


@dataclasses.dataclass(frozen=True)
class LabelStatistics:
    """Size and place of one label; what does not exist for it is None."""

    label: int
    name: str
    voxels: int
    volume_mm3: float | None
    """Volume in mm³; None in 2D."""
    volume_ml: float | None
    """Volume in mL; None in 2D."""
    area_mm2: float | None
    """Area in mm², or in pixels for a picture, which has no size in the world; None in 3D."""
    centroid_mm: tuple[float, ...] | None
    """Mean position of the voxel centres in RAS+ mm; None for an empty label."""
    first_voxel: tuple[int, ...] | None
    """Lowest index of the bounding box on each axis."""
    last_voxel: tuple[int, ...] | None
    """Highest index of the bounding box on each axis, still inside the label."""


def label_statistics(
    labels: npt.ArrayLike,
    affine: Affine | npt.ArrayLike,
    *,
    names: Mapping[int, str] | None = None,
) -> list[LabelStatistics]:
    """Return size and place of each label, by rising value.

    Args:
        labels: Integer classes, 0 is background; shape `(x, y)` or `(x, y, z)`.
        affine: Map from voxel indices to RAS+ mm, with as many axes as the label map.
        names: Names by value. A named label that is not in the map gets a row with 0 voxels, one
            without a name is called by its number.

    Raises:
        InputError: The values are not integers, or some are negative.
        GeometryError: The affine does not suit the label map.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "biu" or (array.size and array.min() < 0):
        raise InputError(
            f"the label map has the dtype {array.dtype}; expected integers from 0 (background) on."
        )
    array = array.view(np.uint8) if array.dtype == np.bool_ else array
    affine = affine if isinstance(affine, Affine) else Affine(affine)
    grid = Grid(array.shape, affine)
    names = {value: name for value, name in (names or {}).items() if value != 0}
    boxes = {n: box for n, box in enumerate(find_objects(array), start=1) if box is not None}
    return [
        _statistics(array, boxes.get(label), grid, label, names.get(label, str(label)))
        for label in sorted({*boxes, *names})
    ]


def write_volumes_csv(rows: Iterable[LabelStatistics], path: str | Path) -> None:
    """Write label statistics as a table; the file appears whole or not at all.

    Positions and indices are spread over one column an axis; what does not exist is an empty cell.

    Args:
        rows: Result of `label_statistics`.
        path: The `.csv` file to write.

    Raises:
        OutputError: The file cannot be written.
    """
    table = [dict(_cells(row)) for row in rows]
    # A row of an empty label has no coordinates, so the columns are those of all rows together.
    columns = dict.fromkeys(column for row in table for column in row)
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, fieldnames=list(columns) or _scalar_columns())
        writer.writeheader()
        writer.writerows(table)


def _statistics(
    labels: npt.NDArray[Any], box: tuple[slice, ...] | None, grid: Grid, label: int, name: str
) -> LabelStatistics:
    voxels, centroid = 0, None
    if box is not None:
        mask = labels[box] == label
        voxels = int(np.count_nonzero(mask))
        centre = [part.start + _mean_index(mask, axis) for axis, part in enumerate(box)]
        centroid = tuple(float(value) for value in grid.affine.apply(centre))
    size = voxels * grid.voxel_volume
    solid = len(grid.shape) == 3
    return LabelStatistics(
        label=label,
        name=name,
        voxels=voxels,
        volume_mm3=size if solid else None,
        volume_ml=size / 1000 if solid else None,
        area_mm2=None if solid else size,
        centroid_mm=centroid,
        first_voxel=tuple(part.start for part in box) if box else None,
        last_voxel=tuple(part.stop - 1 for part in box) if box else None,
    )


def _mean_index(mask: npt.NDArray[np.bool_], axis: int) -> float:
    others = tuple(other for other in range(mask.ndim) if other != axis)
    counts = np.count_nonzero(mask, axis=others)
    return float(np.average(np.arange(mask.shape[axis]), weights=counts))


def _cells(row: LabelStatistics) -> Iterable[tuple[str, object]]:
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, tuple):
            base, _, unit = field.name.partition("_mm")
            suffix = "_mm" if not unit and field.name.endswith("_mm") else ""
            for axis, entry in zip("xyz", value, strict=False):
                yield f"{base}_{axis}{suffix}", entry
        elif field.name in _scalar_columns():
            yield field.name, value


def _scalar_columns() -> list[str]:
    return ["label", "name", "voxels", "volume_mm3", "volume_ml", "area_mm2"]
