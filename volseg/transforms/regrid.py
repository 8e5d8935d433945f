"""Images and labels on a grid of another orientation and spacing, in one interpolation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, ensure_tuple_rep
from torch import Tensor

from volseg.errors import InputError, UnknownNameError
from volseg.geometry import Affine, AxisSampling, Grid, parallel_grid, relate_grids
from volseg.io import grid_of
from volseg.transforms.compiled_regridding import linear_rows
from volseg.transforms.sampling import MONAI_MODES

MODES = ("linear", "nearest")


class Regridd(MapTransform, InvertibleTransform):
    """Bring images and labels to an orientation and a spacing: `regrid` in a dictionary.

    Replaces MONAI's `Orientationd` followed by `Spacingd`; the field of view keeps its middle. The
    inverse brings a result on the new grid back to the grid of the file.

    Args:
        keys: `MetaTensor` images or label maps (channels, x, y) or (channels, x, y, z).
        orientation: Axis codes such as "RAS" that the axes come nearest to; as they are without it.
        spacing: Distance of voxel centres in mm along each new axis; as it is without it.
        mode: "linear" (float32 comes out) or "nearest" (for labels); one or one a key.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        UnknownNameError: There is no such mode.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        orientation: str | None = None,
        spacing: Sequence[float] | None = None,
        mode: str | Sequence[str] = "linear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orientation = orientation
        self.spacing = None if spacing is None else tuple(float(step) for step in spacing)
        self.modes = ensure_tuple_rep(mode, len(self.keys))
        for name in self.modes:
            if name not in MODES:
                raise UnknownNameError("interpolation mode", str(name), MODES)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the images on their new grids."""
        result = dict(data)
        for key, mode in self.key_iterator(result, self.modes):
            image = _with_affine(key, result[key])
            grid = grid_of(image)
            target = self.target(grid)
            moved = _on_grid(image, regrid(image.as_tensor(), grid, target, mode=mode), target)
            extra = {"affine": grid.affine.matrix.tolist(), "mode": mode}
            result[key] = self.push_transform(moved, orig_size=grid.shape, extra_info=extra)
        return result

    def target(self, grid: Grid) -> Grid:
        """Return the grid that an image on a grid is brought to."""
        return parallel_grid(grid, orientation=self.orientation, spacing=self.spacing)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the images back on the grids they came from."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = _with_affine(key, result[key]).clone()
            operation = self.pop_transform(image)
            recorded = operation[TraceKeys.EXTRA_INFO]
            mode = MONAI_MODES.get(recorded["mode"], recorded["mode"])
            size = tuple(int(n) for n in operation[TraceKeys.ORIG_SIZE])
            target = Grid(size, Affine(np.asarray(recorded["affine"])))
            values = regrid(image.as_tensor(), grid_of(image), target, mode=mode)
            result[key] = _on_grid(image, values, target)
        return result


def regrid(values: Tensor, read: Grid, target: Grid, *, mode: str = "linear") -> Tensor:
    """Return values (channels, *read.shape) at the voxels of a grid with parallel axes.

    Places beyond the outermost voxel centres take their values. Each voxel is the same, bit for
    bit, whichever part of the volume is computed with it.

    Args:
        values: On the grid `read`, on any device; computed on the processor.
        read: The grid that has values.
        target: The grid that wants them.
        mode: "linear" (float32 comes out) or "nearest" (the type stays).

    Raises:
        GeometryError: An axis of one grid is not parallel to an axis of the other.
    """
    samplings = relate_grids(read, target)
    plain = values.detach().cpu()
    if mode == "nearest":
        samplings = tuple(_nearest(sampling) for sampling in samplings)
    else:
        plain = plain.to(torch.float32)
    moved_only = plain.dtype == torch.bfloat16  # which numpy does not know
    array = (plain.view(torch.int16) if moved_only else plain).numpy()
    ordered = sorted(samplings, key=lambda sampling: sampling.target_axis)
    found = torch.from_numpy(interpolated(in_target_order(array, samplings), ordered))
    return (found.view(torch.bfloat16) if moved_only else found).to(values.device)


def in_target_order(
    values: npt.NDArray[Any], samplings: Sequence[AxisSampling]
) -> npt.NDArray[Any]:
    """Return a view of values (channels, ...) whose axes come in the order of the target's."""
    order = np.argsort([sampling.target_axis for sampling in samplings])
    return values.transpose(0, *(1 + int(axis) for axis in order))


def interpolated(values: npt.NDArray[Any], samplings: Sequence[AxisSampling]) -> npt.NDArray[Any]:
    """Return values (channels, ...) at the places of the samplings, one an axis.

    Where no axis is interpolated, voxels are copied and keep their type; otherwise float32 comes
    out.
    """
    if all(sampling.copies for sampling in samplings):
        copied = values
        for axis, sampling in enumerate(samplings, start=1):
            if not np.array_equal(sampling.lower, np.arange(values.shape[axis])):
                copied = copied.take(sampling.lower, axis=axis)
        return np.array(copied, order="C")
    source = np.ascontiguousarray(values, dtype=np.float32)
    axes: list[Any] = [(s.lower, s.upper, s.weight) for s in samplings]
    while len(axes) < 3:  # a picture is a volume of one plane
        axes.insert(0, (np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32)))
    sizes = tuple(len(lower) for lower, _, _ in axes)
    result = np.empty((len(source), *sizes), dtype=np.float32)
    rows = sizes[0] * sizes[1]
    threads = torch.get_num_threads()
    step = max(1, -(-rows // (4 * threads)))
    with ThreadPoolExecutor(threads) as pool:
        running = [
            pool.submit(
                linear_rows,
                result[channel],
                source[channel].reshape(-1, *source.shape[-2:]),
                axes[0],
                axes[1],
                axes[2],
                first,
                min(first + step, rows),
            )
            for channel in range(len(source))
            for first in range(0, rows, step)
        ]
        for future in running:
            future.result()
    return result.reshape(len(source), *(len(sampling.lower) for sampling in samplings))


def _nearest(sampling: AxisSampling) -> AxisSampling:
    """Return the sampling with the nearer plane for both; of equally near ones the upper."""
    plane = np.where(sampling.weight < 0.5, sampling.lower, sampling.upper)
    return replace(sampling, lower=plane, upper=plane, weight=np.zeros_like(sampling.weight))


def _with_affine(key: Hashable, image: Any) -> MetaTensor:
    if not isinstance(image, MetaTensor):
        raise InputError(
            f"{key!r} is a {type(image).__name__} without an affine, so its orientation and "
            "spacing are not known; expected a MetaTensor: read it with ReadImaged."
        )
    return image


def _on_grid(image: MetaTensor, values: Tensor, grid: Grid) -> MetaTensor:
    """Return new values with the metadata of an image, on a grid."""
    result: MetaTensor = MetaTensor(values).copy_meta_from(image)
    affine = result.affine.clone()
    axes = len(grid.shape)
    matrix = torch.tensor(grid.affine.matrix.tolist(), dtype=affine.dtype)
    # A picture may carry an affine of three axes.
    affine[:axes, :axes] = matrix[:-1, :-1]
    affine[:axes, -1] = matrix[:-1, -1]
    result.affine = affine
    return result
