"""One resample of all volumes of a case: coordinates once, only the voxels of the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from volseg.transforms.displacement import Matrix
from volseg.transforms.mapping import Indices, Mapping, Slab
from volseg.transforms.sampling import Source

# Voxels computed together: coordinates and intermediate values of this many stay in the cache of
# a processor; an accelerator wants more work in each launch.
_VOXELS_ON_CPU = 1 << 16
_VOXELS_ELSEWHERE = 1 << 23


@dataclass(frozen=True)
class Volume:
    """One volume to resample, and how.

    Attributes:
        values: (channels, *spatial); may be memory-mapped, only what is needed is read.
        mode: "nearest", "linear", "cubic" or "classes".
        padding: "zeros", "border" or "reflection".
        fill: value outside the volume for "zeros".
        from_reference: homogeneous matrix from the indices a mapping gives to those of this
            volume, for volumes on another grid than the reference; None where they are the same.
    """

    values: torch.Tensor
    mode: str = "linear"
    padding: str = "zeros"
    fill: float = 0.0
    from_reference: Matrix | None = None


def resample(volumes: Sequence[Volume], mapping: Mapping) -> list[torch.Tensor]:
    """Return each volume read where the mapping says, (channels, *mapping.size).

    The coordinates are computed once for all volumes. "linear" and "cubic" give float32, the
    other modes keep the type of the volume.

    Args:
        volumes: on one device.
        mapping: index in the reference grid of each output voxel.

    Raises:
        UnknownNameError: if a mode or a padding is not known.
    """
    bounds = mapping.bounds()
    sources = [
        Source.prepare(
            volume.values,
            _bounds_in(volume, bounds),
            mode=volume.mode,
            padding=volume.padding,
            fill=volume.fill,
        )
        for volume in volumes
    ]
    device = volumes[0].values.device
    plane = math.prod(mapping.size[1:])
    results = [
        torch.empty(
            (len(source.values), plane * mapping.size[0]),
            dtype=source.values.dtype,
            device=device,
        )
        for source in sources
    ]

    def fill(rows: slice, locate: Indices) -> None:
        indices = locate()
        for volume, source, result in zip(volumes, sources, results, strict=True):
            own = indices
            if volume.from_reference is not None:
                matrix = torch.as_tensor(volume.from_reference, dtype=indices.dtype, device=device)
                with torch.autocast(device.type, enabled=False):
                    own = torch.addmm(matrix[:-1, -1:], matrix[:-1, :-1], indices)
            start = rows.start * plane
            source.sample(own, result[:, start : start + own.shape[1]])

    if device.type == "cpu":
        _in_threads(fill, mapping.slabs(device, _VOXELS_ON_CPU))
    else:
        for rows, locate in mapping.slabs(device, _VOXELS_ELSEWHERE):
            fill(rows, locate)
    return [result.view(-1, *mapping.size) for result in results]


def _in_threads(fill: Callable[[slice, Indices], None], slabs: Iterator[Slab]) -> None:
    """Fill slabs side by side, in as many threads as torch may use."""
    threads = torch.get_num_threads()
    if threads == 1:
        for rows, locate in slabs:
            fill(rows, locate)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(fill, rows, locate) for rows, locate in slabs]:
            future.result()


def _bounds_in(volume: Volume, bounds: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
    if volume.from_reference is None:
        return bounds
    linear = volume.from_reference[:-1, :-1]
    middle = linear @ ((bounds[0] + bounds[1]) / 2) + volume.from_reference[:-1, -1]
    half = np.abs(linear) @ ((bounds[1] - bounds[0]) / 2)
    return middle - half, middle + half
