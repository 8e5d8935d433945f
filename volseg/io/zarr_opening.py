"""Reading of the Zarr arrays that volseg writes (`save_zarr`), in parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine, Grid
from volseg.io.stored_volume import StoredVolume
from volseg.io.volume_block import VolumeBlock, cuts
from volseg.io.zarr_saving import require_zarr


def open_zarr(path: str | os.PathLike[str]) -> StoredVolume:
    """Return probabilities or another map that volseg wrote as Zarr, to be read in parts.

    Raises:
        InputError: if there is no such array, or it has other axes.
        GeometryError: if it does not say where its voxels lie.
        MissingPackageError: without the package zarr.
    """
    zarr = require_zarr("reading .zarr")
    source = Path(path)
    try:
        array = zarr.open_array(str(source), mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {source} as a Zarr array ({error}).") from error
    if array.ndim not in (3, 4) or array.attrs.get("class_axis") != 0:
        raise InputError(
            f"{source} is a Zarr array of {array.shape}; expected one that volseg wrote, with the "
            "classes first."
        )
    try:
        affine = Affine(np.array(array.attrs["affine"], dtype=np.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise GeometryError(f"{source} does not say where its voxels lie ({error}).") from error
    grid = Grid(tuple(array.shape[1:]), affine)
    return StoredVolume(grid, array.shape[0], partial(_blocks, array), source=str(source))


def _blocks(array: Any, voxels: int) -> Iterator[VolumeBlock]:
    axis = array.ndim - 2
    plane = int(np.prod(array.shape[1:-1]))
    for channels, start, stop in cuts(array.shape[0], array.shape[-1], plane, voxels):
        yield VolumeBlock(channels, axis, start, stop, array[channels, ..., start:stop])
