"""Label maps on the grid of the image they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid, require_same_grid
from volseg.io.array_on_disk import ReadableArray, slabs
from volseg.io.meta_tensors import grid_of, meta_tensor, require_ras

_MOST_LABELS = 65535


def on_source_grid(labels: Any, source: Any) -> MetaTensor:
    """Return a label map (1, x, y, z) of uint8 or uint16 on exactly the affine of its source.

    Args:
        labels: array or tensor (x, y, z) or (1, x, y, z) of non-negative whole numbers; a
            MetaTensor must carry the affine of its source.
        source: channel-first MetaTensor the labels belong to.

    Raises:
        ShapeError: if the spatial shapes differ.
        GeometryError: if the labels carry another affine.
        InputError: if the values are not labels.
    """
    grid = grid_of(source)
    values = label_values(labels, grid)
    name = str(source.meta.get("filename_or_obj", ""))
    codes = {
        key: int(source.meta[key]) for key in ("sform_code", "qform_code") if key in source.meta
    }
    return meta_tensor(values[np.newaxis], grid.affine, name, codes)


def original_grid_of(image: Any) -> Grid:
    """Return the grid of the file an image came from, also after transforms moved the image.

    Raises:
        GeometryError: if the image was not read by volseg and lacks the entries, or has them in
            another world than RAS+.
    """
    shape, affine = image.meta.get("spatial_shape"), image.meta.get("original_affine")
    if shape is None or affine is None:
        raise GeometryError(
            "the image does not carry the grid of its file (meta 'spatial_shape' and "
            "'original_affine'); read it with volseg.io."
        )
    require_ras(image)
    sizes = tuple(int(size) for size in np.asarray(shape).ravel())
    return Grid(sizes, Affine(np.asarray(affine)))


def label_values(labels: Any, grid: Grid) -> npt.NDArray[Any]:
    """Return labels as a uint8 (past 255: uint16) array of the grid's spatial shape, checked."""
    values = array_values(labels)
    _require_shape(values.shape, grid)
    if isinstance(labels, MetaTensor):
        channel_first = labels if labels.ndim == len(grid.shape) + 1 else labels[None]
        require_same_grid(grid_of(channel_first), grid, what="a label map and its image")
    return values.reshape(grid.shape).astype(_label_type([values]))


def array_values(values: Any) -> npt.NDArray[Any]:
    """Return an array, a tensor on any device or a MetaTensor as an array."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    tensor = torch.as_tensor(values).detach().cpu()
    found: npt.NDArray[Any] = (
        tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    ).numpy()
    return found


def checked_labels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return part of a label map as uint16.

    Raises:
        InputError: if the values are not labels.
    """
    _highest_label(values)
    return values.astype(np.uint16, copy=False)


class LabelsOnDisk:
    """A label map on disk, such as Zarr, as an array (1, x, y, z) of uint8 (past 255: uint16).

    Args:
        labels: array on disk of the grid's shape, or with one channel before it.
        grid: of the image the labels belong to.

    Raises:
        ShapeError: if the spatial shapes differ.
        InputError: if the values are not labels; all of them are read unless they are uint8.
    """

    def __init__(self, labels: ReadableArray, grid: Grid) -> None:
        _require_shape(tuple(labels.shape), grid)
        self._labels = labels
        self.shape = (1, *grid.shape)
        self.chunks: tuple[int, ...] | None = getattr(labels, "chunks", None)
        self.dtype = np.dtype(labels.dtype)
        if self.dtype != np.uint8:
            self.dtype = _label_type(slabs(self))

    def __getitem__(self, place: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read a part, given as a slice for each axis."""
        if len(self._labels.shape) == len(self.shape):
            values = np.asarray(self._labels[place])
        else:
            values = np.asarray(self._labels[place[1:]])[np.newaxis]
        return values.astype(self.dtype, copy=False)


def _require_shape(shape: tuple[int, ...], grid: Grid) -> None:
    """Raise unless an array has the grid's shape, alone or after an axis of one channel."""
    if shape not in (grid.shape, (1, *grid.shape)):
        raise ShapeError(
            f"a label map must have the spatial shape of its image, {grid.shape}, got {shape}; "
            "bring it back to the grid of the image first."
        )


def _label_type(parts: Iterable[npt.NDArray[Any]]) -> np.dtype[Any]:
    """Return the type for the labels of an array that is given in parts."""
    highest = max(_highest_label(part) for part in parts)
    return np.dtype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16)


def _highest_label(values: npt.NDArray[Any]) -> float:
    if values.dtype == np.bool_:
        return 1
    if values.dtype.kind not in "uif":
        raise InputError(f"labels must be whole numbers, got values of type {values.dtype}.")
    lowest, highest = values.min(), values.max()
    whole = values.dtype.kind in "ui" or (
        bool(np.isfinite([lowest, highest]).all()) and np.array_equal(values, np.floor(values))
    )
    if not whole:
        raise InputError(
            f"labels must be whole numbers, got fractions or non-finite values between {lowest} "
            f"and {highest}; take the most likely class of each voxel first."
        )
    if lowest < 0 or highest > _MOST_LABELS:
        raise InputError(
            f"labels must lie between 0 and {_MOST_LABELS}, got {lowest} to {highest}."
        )
    return float(highest)
