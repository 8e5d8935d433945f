"""What a stream holds at once, in bytes, known before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.inference.restoring import BLOCK_BYTES
from volseg.inference.source import READ_PLANES
from volseg.inference.tiling import Tiling

_FLOAT = 4


@dataclass(frozen=True)
class Footprint:
    """Memory of a stream; what the network needs within itself comes on top.

    Attributes:
        axis: Streaming axis it holds for.
        tiles: Tiles to run.
        accumulator: Logits that are not finished.
        reader: Planes of the input that later tiles need, none for a tensor in memory.
        batch: One batch of tiles and its logits.
    """

    axis: int
    tiles: int
    accumulator: int
    reader: int
    batch: int

    @property
    def total(self) -> int:
        """All together."""
        return self.accumulator + self.reader + self.batch


def stream_footprint(
    shape: Sequence[int],
    tiling: Tiling,
    channels: int,
    *,
    axis: int | None = None,
    tile_batch: int = 1,
    networks: int = 1,
    passes: int = 1,
    in_memory: bool = False,
) -> Footprint:
    """Return what `stream_logits` holds at most.

    Args:
        shape: ``(image channels, ...)`` of the volume.
        tiling: Where tiles lie.
        channels: Channels of the logits: classes, and one more with disagreement.
        axis: Streaming axis; the one that needs least if not given.
        tile_batch: Tiles the networks get at once.
        networks: Members of an ensemble, of which sums are held.
        passes: Networks x mirrored passes; from two up the mean is a copy of its own.
        in_memory: Whether the volume is a tensor, of which tiles are cut without a copy.
    """
    images, *sides = shape
    along = tiling.streaming_axis(sides) if axis is None else axis
    others = _plane(sides, along)
    read = min(tiling.tile[along], sides[along])
    tile, result = math.prod(tiling.tile), math.prod(tiling.result)
    copies = 1 if passes == 1 else 3  # the sum, the new logits and their sum
    if networks > 1:  # sums of probabilities, of regions for yes and for no
        copies += 3
    return Footprint(
        axis=along,
        tiles=math.prod(len(tiling.along(a, side)) for a, side in enumerate(sides)),
        accumulator=_FLOAT * channels * tiling.live_depth(along, sides[along]) * others,
        reader=0 if in_memory else _FLOAT * images * (read + min(read, READ_PLANES)) * others,
        batch=_FLOAT * tile_batch * (images * tile + channels * result * copies),
    )


def restoring_bytes(
    network_shape: Sequence[int],
    source_shape: Sequence[int],
    classes: int,
    *,
    axis: int,
    source_axis: int,
    interpolated: bool,
    block_bytes: int = BLOCK_BYTES,
) -> int:
    """Return what `restore_slabs` holds at most, beside its targets.

    Args:
        network_shape: Spatial shape of the network's grid.
        source_shape: Spatial shape of the source.
        classes: Classes or regions.
        axis: Streaming axis, of the network's grid.
        source_axis: The axis of the source that is parallel to it.
        interpolated: Whether probabilities or entropy are wanted.
        block_bytes: As given to `restore_slabs`.
    """
    plane, whole = _plane(network_shape, axis), math.prod(network_shape)
    held = _FLOAT * classes * plane
    held += min(max(held, block_bytes), _FLOAT * classes * whole)
    channels = classes if interpolated else 1
    result = _FLOAT * channels * _plane(source_shape, source_axis)
    return held + min(max(result, block_bytes), _FLOAT * channels * math.prod(source_shape))


def _plane(shape: Sequence[int], axis: int) -> int:
    """Return the voxels of a plane across an axis."""
    return math.prod(side for other, side in enumerate(shape) if other != axis)
