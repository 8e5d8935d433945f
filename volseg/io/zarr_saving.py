"""Saving of Zarr, version 3 of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volseg.errors import MissingPackageError
from volseg.geometry import Affine
from volseg.io.array_on_disk import ReadableArray

_CHUNK = 64  # voxels along each axis: what viewers read at a time
_SHARD_BYTES = 1 << 26


def require_zarr(feature: str = "writing .zarr") -> Any:
    """Return the zarr package.

    Raises:
        MissingPackageError: if it is not installed.
    """
    try:
        import zarr  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise MissingPackageError(feature, "zarr", "zarr") from error
    return zarr


def save_zarr(values: ReadableArray, affine: Affine, folder: Path) -> None:
    """Save values (channels, x, y, z) or (channels, x, y) as a Zarr array.

    Its attributes are `affine` (RAS+ mm, of the spatial axes) and `class_axis`. Chunks are cubes,
    and one file holds those of a range of planes, so that a volume is some files and not thousands.

    Args:
        values: read in the order of the files.
        affine: of the spatial axes.
        folder: to write, ending in `.zarr`.
    """
    channels, *space, length = values.shape
    plane = values.dtype.itemsize
    sides = []
    for side in space:
        sides.append(-(-side // _CHUNK) * _CHUNK if side > _CHUNK else side)
        plane *= sides[-1]
    depth = max(1, min(length, _CHUNK, _SHARD_BYTES // plane))
    array = require_zarr().create_array(
        store=str(folder),
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, *(min(side, _CHUNK) for side in space), depth),
        shards=(1, *sides, depth),
        dimension_names=("class", *"xyz"[: affine.spatial_dims]),
        attributes={"affine": affine.matrix.tolist(), "unit": "mm", "class_axis": 0},
    )
    for channel in range(channels):
        for start in range(0, length, depth):
            place = (slice(channel, channel + 1), *(slice(None) for _ in space))
            planes = slice(start, min(length, start + depth))
            array[(*place, planes)] = values[(*place, planes)]
