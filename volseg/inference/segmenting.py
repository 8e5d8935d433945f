"""A volume segmented as a stream: from what the network reads to labels on the source grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from volseg.errors import ShapeError
from volseg.geometry import Grid
from volseg.inference.decision import MOST_PROBABLE, Decision
from volseg.inference.ensemble import Network
from volseg.inference.restoring import BLOCK_BYTES, Targets, restore_slabs
from volseg.inference.source import SlabSource, as_source
from volseg.inference.streaming import Progress, stream_logits
from volseg.inference.tiling import Tiling


def segment_volume(
    volume: SlabSource | Tensor | npt.NDArray[Any],
    networks: Network | Sequence[Network],
    tiling: Tiling,
    targets: Targets,
    *,
    network_grid: Grid,
    source_grid: Grid,
    decision: Decision = MOST_PROBABLE,
    axis: int | None = None,
    mirror_axes: Sequence[int] = (),
    tile_batch: int = 1,
    device: torch.device | str | None = None,
    accumulate_on: torch.device | str | None = None,
    threads: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Segment a volume slab by slab and write what is wanted on the source grid.

    No array of classes x volume exists at any time (`stream_footprint` and `restoring_bytes` tell
    what does). Of a run that is stopped, some of the targets' blocks are written.

    Args:
        volume: ``(channels, ...)`` on the network's grid; see `stream_logits`.
        networks: One callable or the members of an ensemble.
        tiling: Where tiles lie and how they are put together.
        targets: What is wanted; disagreement needs several networks or ``mirror_axes``.
        network_grid: Grid of the volume.
        source_grid: Grid of the targets, its axes parallel to the other's in any order.
        decision: How labels are decided and what probabilities are said.
        axis: See `stream_logits`, as for all that follow.
        mirror_axes: Spatial axes along which tiles are also shown mirrored.
        tile_batch: Tiles the networks get at once.
        device: Where the networks get their tiles.
        accumulate_on: Where logits are blended.
        threads: Threads of the way back to the source grid; see `restore_slabs`.
        block_bytes: Held on the way back; see `restore_slabs`.
        progress: Called as ``progress(done, total)`` after each batch of tiles.
        cancelled: Asked before each batch of tiles.

    Raises:
        GeometryError: The two grids are not related axis by axis.
        ShapeError: The volume, a result or a target has another shape than expected.
        InputError: An option is out of range.
        Cancelled: ``cancelled()`` was true.
    """
    source = as_source(volume)
    if tuple(source.shape[1:]) != network_grid.shape:
        raise ShapeError(
            f"the volume must lie on the network's grid ({network_grid.describe()}), got "
            f"{tuple(source.shape)}."
        )
    slabs = stream_logits(
        source,
        networks,
        tiling,
        axis=axis,
        mirror_axes=mirror_axes,
        tile_batch=tile_batch,
        device=device,
        accumulate_on=accumulate_on,
        kind="classes" if decision.exclusive else "regions",
        disagreement=targets.disagreement is not None,
        progress=progress,
        cancelled=cancelled,
    )
    restore_slabs(
        slabs,
        targets,
        network_grid=network_grid,
        source_grid=source_grid,
        decision=decision,
        threads=threads,
        block_bytes=block_bytes,
    )
