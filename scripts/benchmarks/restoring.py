"""Logits brought back to the grid of the file, and the labels there: by volseg and by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from torch import Tensor
from torch.nn import functional

from benchmarks.costs import Figures
from benchmarks.scans import smooth_noise
from volseg.geometry import Grid
from volseg.inference import Slab, Targets, restore_slabs

_PLANES = 16  # of a slab


@dataclass(frozen=True)
class Restoring:
    """Labels on the grid of the file from logits in memory, which are not counted.

    Attributes:
        classes: Channels of the logits.
        network_grid: Where the logits lie.
        source_grid: Where the labels are wanted; both have the same axes and corners.
        labels: Where they go.
        library: ``volseg``, ``torch`` or ``monai``.
    """

    classes: int
    network_grid: Grid
    source_grid: Grid
    labels: Path
    library: str

    def prepare(self) -> Callable[[], Figures]:
        """Make the logits, and load what is compiled."""
        logits = smooth_noise(self.classes, self.network_grid.shape)
        run = {"volseg": _with_volseg, "torch": _with_torch, "monai": _with_monai}[self.library]
        if self.library == "volseg":
            _load_compiled_loops(self)
        return partial(run, self, logits)


def _with_volseg(job: Restoring, logits: Tensor) -> Figures:
    labels = np.empty(job.source_grid.shape, np.uint8)
    restore_slabs(
        _slabs(logits),
        Targets(labels=labels),
        network_grid=job.network_grid,
        source_grid=job.source_grid,
    )
    np.save(job.labels, labels)
    return {}


def _with_torch(job: Restoring, logits: Tensor) -> Figures:
    probabilities = functional.interpolate(
        logits.softmax(0)[None],
        job.source_grid.shape,
        mode="trilinear",
        align_corners=True,  # the grids have the same corners
    )[0]
    np.save(job.labels, probabilities.argmax(0).to(torch.uint8).numpy())
    return {}


def _with_monai(job: Restoring, logits: Tensor) -> Figures:
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=torch.float32)
    found = resample(
        MetaTensor(logits.softmax(0), affine=_matrix(job.network_grid)),
        dst_affine=_matrix(job.source_grid),
        spatial_size=job.source_grid.shape,
    )
    np.save(job.labels, found.argmax(0).to(torch.uint8).numpy())
    return {}


def _slabs(logits: Tensor) -> Iterator[Slab]:
    side = logits.shape[1]
    for start in range(0, side, _PLANES):
        stop = min(start + _PLANES, side)
        yield Slab(0, start, stop, logits[:, start:stop])


def _matrix(grid: Grid) -> Tensor:
    return torch.tensor(grid.affine.matrix.tolist(), dtype=torch.float64)


def _load_compiled_loops(job: Restoring) -> None:
    small, large = (
        Grid((side,) * 3, grid.affine)
        for side, grid in ((4, job.network_grid), (6, job.source_grid))
    )
    restore_slabs(
        _slabs(torch.zeros((job.classes, *small.shape))),
        Targets(labels=np.empty(large.shape, np.uint8)),
        network_grid=small,
        source_grid=large,
    )
