"""Reading a volume between its voxels: nearest, linear, cubic, or linear for each class.

A ring of one voxel (two behind) is laid around the part of the volume that is read. Coordinates
are brought into it first, so that sampling itself needs no test of bounds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import spline_filter1d

from volseg.errors import UnknownNameError
from volseg.transforms import compiled_sampling
from volseg.transforms.displacement import Matrix, spline_coefficients

MODES = ("nearest", "linear", "cubic", "classes")
PADDINGS = ("zeros", "border", "reflection")
# What MONAI's `Invertd` writes into a record, where it differs.
MONAI_MODES = {"bilinear": "linear"}

# What a coefficient contributes to a cubic spline falls by 2 - sqrt(3) a voxel: after 16 voxels
# it is below 1e-9 of its value, so that a part of a volume can be filtered on its own.
_CUBIC_REACH = 16
_RING = 2
_UNSIGNED = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


@dataclass(frozen=True)
class Source:
    """A part of a volume, ready to be sampled at indices of the whole volume.

    Attributes:
        values: (channels, voxels) of the part with its ring.
        shape: spatial shape of the part with its ring.
        offset: what takes an index of the volume to one of the part, one an axis.
        lower, upper: smallest and largest index within the part that is sampled.
        mirrored: the axes, as the size of the volume, that are mirrored at the ends; else 0.
        mode: how to read between voxels.
        outside: index of the volume beyond which cubic gives `fill`; None where it never does.
        fill: value outside the volume.
    """

    values: torch.Tensor
    shape: tuple[int, ...]
    offset: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    mirrored: tuple[int, ...]
    mode: str
    outside: tuple[int, ...] | None
    fill: float

    @classmethod
    def prepare(
        cls,
        volume: torch.Tensor,
        bounds: tuple[Matrix, Matrix] | None = None,
        *,
        mode: str = "linear",
        padding: str = "zeros",
        fill: float = 0.0,
    ) -> Source:
        """Return the part of a volume (channels, *spatial) that indices within bounds can read.

        Only that part is touched, so that the volume may be a memory-mapped file.

        Args:
            volume: channel-first values.
            bounds: smallest and largest index that will be sampled; the whole volume without it.
            mode: "nearest", "linear", "cubic" (B-spline, prefiltered), or "classes" (each class
                read linearly, the largest wins).
            padding: outside the volume: "zeros" (the value `fill`), "border" (the nearest voxel)
                or "reflection" (mirrored about the outermost voxel centres).
            fill: value outside the volume for "zeros".

        Raises:
            UnknownNameError: if the mode or the padding is not known.
        """
        if mode not in MODES:
            raise UnknownNameError("interpolation mode", mode, MODES)
        if padding not in PADDINGS:
            raise UnknownNameError("padding mode", padding, PADDINGS)
        size = tuple(volume.shape[1:])
        reach = _CUBIC_REACH if mode == "cubic" else 1
        box, mirrored = [], []
        for axis, n in enumerate(size):
            low, high = (0, n) if bounds is None else _interval(bounds, axis, reach)
            if padding == "reflection" and (low < 0 or high > n):
                low, high = _mirrored_extent(low, high, n)
                mirrored.append(n)
            else:
                mirrored.append(0)
            start = min(max(low, 0), n - 1)
            box.append((start, min(max(high, start + 1), n)))
        ring = _RING if mode == "cubic" else 1
        part = volume[(slice(None), *(slice(*limits) for limits in box))]
        values = _with_ring(part, mode, fill)
        beyond = 1.0 if padding == "zeros" and mode != "cubic" else 0.0
        return cls(
            values=values.flatten(1),
            shape=tuple(values.shape[1:]),
            offset=tuple(float(ring - start) for start, _ in box),
            lower=tuple(ring - beyond for _ in box),
            upper=tuple(stop - start - 1 + ring + beyond for start, stop in box),
            mirrored=tuple(mirrored),
            mode=mode,
            outside=size if padding == "zeros" and mode == "cubic" else None,
            fill=fill,
        )

    def sample(self, indices: torch.Tensor, result: torch.Tensor) -> None:
        """Write (channels, voxels) at indices (axes, voxels) of the whole volume into a result."""
        if indices.device.type == "cpu" and self.values.element_size() <= 8:
            self._sample_compiled(indices, result)
        else:
            result.copy_(self.sample_by_tensors(indices))

    def _sample_compiled(self, indices: torch.Tensor, result: torch.Tensor) -> None:
        values, target = self.values, result
        if self.mode in ("nearest", "classes"):  # only moved or compared, whatever they mean
            unsigned = _UNSIGNED[values.element_size()]
            values, target = values.view(unsigned), target.view(unsigned)
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        limits = np.array([self.offset, self.lower, self.upper], dtype=np.float32).T
        arguments: list[Any] = [
            values.numpy(),
            np.array(strides, dtype=np.uint64),
            indices.numpy(),
            np.ascontiguousarray(limits),
            np.array(self.mirrored, dtype=np.int64),
        ]
        if self.mode == "cubic":
            last = [] if self.outside is None else [n - 0.5 for n in self.outside]
            arguments += [np.array(last, dtype=np.float32), np.float32(self.fill)]
        getattr(compiled_sampling, self.mode)(*arguments, target.numpy())

    def sample_by_tensors(self, indices: torch.Tensor) -> torch.Tensor:
        """Return (channels, voxels) at the indices by tensor operations, on any device."""
        inside = indices.clone()
        for axis, n in enumerate(self.mirrored):
            if n:
                inside[axis] = _mirror(inside[axis], n)
        limits = inside.new_tensor([self.offset, self.lower, self.upper])[:, :, None]
        inside = inside.add_(limits[0]).clamp_(limits[1], limits[2])
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        voxels = self.values.shape[1]
        if self.mode == "nearest":
            nearest = inside.add_(0.5).to(torch.int32)
            return self.values.index_select(1, _flat(nearest, strides, voxels))
        below = inside.to(torch.int32)
        fraction = inside.sub_(below)
        start = _flat(below, strides, voxels)
        if self.mode == "linear":
            return _linear(self.values, start, fraction, strides)
        if self.mode == "classes":
            return _largest_class(self.values, start, fraction, strides)
        result = _cubic(self.values, start, fraction, strides)
        if self.outside is not None:
            last = indices.new_tensor(self.outside)[:, None] - 0.5
            result[:, ((indices < -0.5) | (indices >= last)).any(0)] = self.fill
        return result


def _mirrored_extent(low: int, high: int, n: int) -> tuple[int, int]:
    """Return what is read of an axis of n voxels when an interval is mirrored at its ends."""
    if low < 0 and high <= min(n, low + 2 * n - 1):
        return 0, min(n, max(high, 1 - low))
    if low >= 0 and high <= 2 * n - 1:
        return max(0, min(low, 2 * n - 1 - high)), n
    return 0, n


def _interval(bounds: tuple[Matrix, Matrix], axis: int, reach: int) -> tuple[int, int]:
    return (
        math.floor(float(bounds[0][axis])) - reach,
        math.ceil(float(bounds[1][axis])) + reach + 1,
    )


def _with_ring(part: torch.Tensor, mode: str, fill: float) -> torch.Tensor:
    """Return a copy with the ring: `fill`, or the mirrored spline coefficients for cubic."""
    if mode == "cubic":
        values = part.to(torch.float32)
        for axis in range(1, values.ndim):
            n = values.shape[axis]
            values = _filtered(values, axis)
            beyond = _mirror(torch.arange(-_RING, n + _RING, device=values.device), n)
            values = values.index_select(axis, beyond)
        return values.contiguous()
    dtype = torch.float32 if mode == "linear" else part.dtype
    shape = [part.shape[0], *(n + 3 for n in part.shape[1:])]
    values = torch.empty(shape, dtype=dtype, device=part.device)
    for axis, n in enumerate(part.shape[1:], start=1):
        values.narrow(axis, 0, 1).fill_(fill)
        values.narrow(axis, n + 1, 2).fill_(fill)
    values[(slice(None), *(slice(1, n + 1) for n in part.shape[1:]))] = part
    return values


def _filtered(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the coefficients of cubic B-splines along an axis, mirrored at its ends."""
    if values.device.type == "cpu":
        lines = spline_filter1d(values.numpy(), 3, axis=axis, output=np.float32, mode="mirror")
        return torch.from_numpy(lines)
    matrix = torch.tensor(spline_coefficients(values.shape[axis]), dtype=torch.float32)
    along = torch.movedim(values, axis, -1)
    with torch.autocast(values.device.type, enabled=False):
        return torch.movedim(along @ matrix.T.to(values.device), -1, axis)


def _mirror(index: torch.Tensor, n: int) -> torch.Tensor:
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * (n - 1)
    folded = torch.remainder(index, period)
    return torch.minimum(folded, period - folded)


def _flat(index: torch.Tensor, strides: list[int], voxels: int) -> torch.Tensor:
    if voxels > np.iinfo(np.int32).max:
        index = index.to(torch.int64)
    result = index[-1]
    for axis, stride in enumerate(strides[:-1]):
        result = torch.add(result, index[axis], alpha=stride)
    return result


def _linear(
    values: torch.Tensor, start: torch.Tensor, fraction: torch.Tensor, strides: list[int]
) -> torch.Tensor:
    def between(axis: int, offset: int) -> torch.Tensor:
        if axis == len(strides):
            return values[:, offset:].index_select(1, start)
        return between(axis + 1, offset).lerp_(
            between(axis + 1, offset + strides[axis]), fraction[axis]
        )

    return between(0, 0)


def _largest_class(
    values: torch.Tensor, start: torch.Tensor, fraction: torch.Tensor, strides: list[int]
) -> torch.Tensor:
    # torch compares few of the unsigned types.
    known = values if values.is_floating_point() else values.to(torch.int64)
    best = known.index_select(1, start)
    share = torch.zeros(best.shape, dtype=torch.float32, device=values.device)
    for label in torch.unique(known):
        found = _linear((known == label).to(torch.float32), start, fraction, strides)
        best = torch.where(found > share, label, best)
        share = torch.maximum(share, found)
    return best.to(values.dtype)


def _cubic(
    values: torch.Tensor, start: torch.Tensor, fraction: torch.Tensor, strides: list[int]
) -> torch.Tensor:
    rest = 1 - fraction
    weights = torch.stack(
        [
            rest**3 / 6,
            2 / 3 - fraction**2 + fraction**3 / 2,
            2 / 3 - rest**2 + rest**3 / 2,
            fraction**3 / 6,
        ]
    )
    result = torch.zeros(len(values), start.shape[0], device=values.device)
    for taps in itertools.product(range(4), repeat=len(strides)):
        offset = sum((tap - 1) * stride for tap, stride in zip(taps, strides, strict=True))
        weight = weights[taps[0], 0]
        for axis in range(1, len(strides)):
            weight = weight * weights[taps[axis], axis]
        result.addcmul_(values.index_select(1, start + offset), weight)
    return result
