"""The one engine: from a volume and a network to finished slabs of blended logits.

Tiles come in rows along the streaming axis. A plane is finished as soon as no later row touches
it, so only one row's depth of logits is ever held: classes x slab, whatever the length of the
volume. Blending weights need no volume either (`volseg.inference.tiling`).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy.typing as npt
import torch
from torch import Tensor

from volseg.errors import Cancelled, InputError, MemoryLimitError, ShapeError
from volseg.inference.ensemble import Ensemble, Network
from volseg.inference.source import SlabSource, TileReader, as_source, discard_planes
from volseg.inference.tiling import AxisTile, Tiling

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slab:
    """Finished planes of a result.

    Attributes:
        axis: Spatial axis along which the volume is streamed.
        start: First plane of the slab.
        stop: One past the last.
        logits: ``(classes, ...)`` float32, all of the volume but for planes ``start`` to ``stop``
            of ``axis``. A view of memory that is used again: valid until the next slab.
        disagreement: Disagreement of the passes ``(...)`` in [0, 1], if it was asked for.
    """

    axis: int
    start: int
    stop: int
    logits: Tensor
    disagreement: Tensor | None = None


def stream_logits(
    volume: SlabSource | Tensor | npt.NDArray[Any],
    networks: Network | Sequence[Network],
    tiling: Tiling,
    *,
    axis: int | None = None,
    mirror_axes: Sequence[int] = (),
    tile_batch: int = 1,
    device: torch.device | str | None = None,
    accumulate_on: torch.device | str | None = None,
    kind: str = "classes",
    disagreement: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Slab]:
    """Yield slabs of blended logits, in order, each once, together the whole volume.

    Args:
        volume: ``(channels, ...)``: a tensor, an array such as a memory map, or a `SlabSource`.
        networks: Callables from ``(tiles, channels, *tile)`` to logits ``(tiles, classes, ...)``;
            of several, the logits of the mean of their probabilities are streamed.
        tiling: Where tiles lie and how they are put together.
        axis: Spatial axis, from 0, to stream along; the one that needs least memory if not given.
            Results agree for all axes but for the rounding of sums.
        mirror_axes: Spatial axes along which tiles are also shown mirrored, in all combinations.
        tile_batch: Tiles the networks get at once.
        device: Where the networks get their tiles; where the volume is if not given.
        accumulate_on: Where logits are blended; where the networks return them if not given.
        kind: What channels of logits are: ``classes`` or ``regions``.
        disagreement: Also yield how far the passes differ.
        progress: Called as ``progress(done, total)`` after each batch of tiles.
        cancelled: Asked before each batch of tiles; ``True`` raises `Cancelled`.

    Raises:
        InputError: An option is out of range.
        ShapeError: The number of axes does not fit, or a network returned an unexpected size.
        MemoryLimitError: A GPU has not enough memory for a single tile, or for the logits that are
            not finished; of batches that do not fit half as many tiles are tried, which is logged.
        Cancelled: ``cancelled()`` was true; all memory is returned.
    """
    source = as_source(volume)
    sides = source.shape[1:]
    if len(sides) != tiling.spatial_dims or min(source.shape) < 1:
        raise ShapeError(
            f"tiles of {tiling.spatial_dims} axes need a volume of {tiling.spatial_dims + 1} axes "
            f"(channels, {', '.join('xyz'[: tiling.spatial_dims])}) with at least one voxel, got "
            f"{source.shape}."
        )
    if tile_batch < 1:
        raise InputError(f"tile_batch must be at least 1, got {tile_batch}.")
    if axis is None:
        axis = tiling.streaming_axis(sides)
    if not 0 <= axis < tiling.spatial_dims:
        raise InputError(f"axis must be from 0 to {tiling.spatial_dims - 1}, got {axis}.")
    ensemble = Ensemble(
        networks,
        mirror_axes=mirror_axes,
        border=tiling.border,
        kind=kind,
        disagreement=disagreement,
    )
    tiles = _Tiles(tiling, sides, axis)
    reader = TileReader(source, axis, tiling.tile, [lost > 0 for lost in tiling.border])
    shown_on = None if device is None else torch.device(device)
    held_on = None if accumulate_on is None else torch.device(accumulate_on)
    results = _results(
        tiles,
        reader,
        ensemble,
        tile_batch=tile_batch,
        device=shown_on,
        progress=progress,
        cancelled=cancelled,
    )
    return _blended(tiles, results, held_on, disagreement)


class _Tiles:
    """All tiles of a volume, one `AxisTile` an axis, the streaming axis slowest."""

    def __init__(self, tiling: Tiling, sides: Sequence[int], axis: int) -> None:
        self.sides = tuple(sides)
        self.axis = axis
        self._along = [tiling.along(a, side) for a, side in enumerate(sides)]
        self.order = (axis, *(a for a in range(len(sides)) if a != axis))
        self.depth = tiling.live_depth(axis, sides[axis])

    def __len__(self) -> int:
        return math.prod(len(tiles) for tiles in self._along)

    def __iter__(self) -> Iterator[tuple[AxisTile, ...]]:
        """Yield tiles as one `AxisTile` an axis, in array order."""
        for found in itertools.product(*(self._along[a] for a in self.order)):
            yield tuple(found[self.order.index(a)] for a in range(len(found)))


def _results(
    tiles: _Tiles,
    reader: TileReader,
    ensemble: Ensemble,
    *,
    tile_batch: int,
    device: torch.device | None,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> Iterator[tuple[tuple[AxisTile, ...], Tensor]]:
    """Yield each tile with its logits ``(channels, ...)``, in order."""
    waiting = iter(tiles)
    done, total = 0, len(tiles)
    while batch := list(itertools.islice(waiting, tile_batch)):
        if cancelled is not None and cancelled():
            raise Cancelled(f"inference was cancelled after {done} of {total} tiles.")
        inputs = _read(batch, reader, pinned=device is not None and device.type == "cuda")
        where = device or inputs.device
        try:
            found = iter(ensemble(inputs.to(where, non_blocking=True)))
        except torch.OutOfMemoryError as error:
            tile_batch = _smaller_batch(inputs.shape, where, error)
            waiting = itertools.chain(batch, waiting)
            continue
        finally:
            del inputs
        for tile in batch:
            yield tile, next(found)
        del found  # the next batch needs the memory
        done += len(batch)
        if progress is not None:
            progress(done, total)


def _smaller_batch(
    shape: Sequence[int], device: torch.device, error: torch.OutOfMemoryError
) -> int:
    """Return half as many tiles as did not fit into the memory of the GPU.

    Raises:
        MemoryLimitError: It was one tile.
    """
    count, _, *sides = shape
    error.__traceback__ = None  # its frames keep what filled the memory
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if count == 1:
        raise MemoryLimitError(
            f"one tile of {' x '.join(map(str, sides))} voxels does not fit into the "
            f"memory of {device}: use smaller tiles, a lower precision, or another device."
        ) from error
    _log.warning("%d tiles do not fit into the memory of %s: %d at once", count, device, count // 2)
    return count // 2


def _read(batch: Sequence[tuple[AxisTile, ...]], reader: TileReader, *, pinned: bool) -> Tensor:
    """Return the tiles of a batch, where the volume is.

    Each is copied at once: reading the next may move what the reader holds.
    """
    inputs: Tensor | None = None
    for place, tile in enumerate(batch):
        values = reader.read([along.start for along in tile])
        if inputs is None:
            inputs = torch.empty(
                (len(batch), *values.shape),
                dtype=values.dtype,
                device=values.device,
                pin_memory=pinned and values.device.type == "cpu",
            )
        inputs[place].copy_(values)
    return cast(Tensor, inputs)


def _blended(
    tiles: _Tiles,
    results: Iterator[tuple[tuple[AxisTile, ...], Tensor]],
    device: torch.device | None,
    disagreement: bool,
) -> Iterator[Slab]:
    """Yield what is finished as soon as no later tile touches it."""
    accumulator: _Accumulator | None = None
    try:
        for tile, result in results:
            if accumulator is None:
                accumulator = _Accumulator(len(result), tiles, device or result.device)
            count = tile[tiles.axis].first - accumulator.start
            if count > 0:
                yield accumulator.slab(count, disagreement)
                accumulator.discard(count)
            accumulator.add(tile, result)
            del result  # the next batch needs the memory
        if accumulator is not None:
            yield accumulator.slab(tiles.sides[tiles.axis] - accumulator.start, disagreement)
    finally:
        accumulator = None  # whoever keeps the exception of a stopped run keeps this frame


class _Accumulator:
    """Weighted logits of the planes that are not finished, the streaming axis before the others."""

    def __init__(self, channels: int, tiles: _Tiles, device: torch.device) -> None:
        self._order = tiles.order
        self._weights: dict[tuple[int, int], Tensor] = {}
        sides = [tiles.sides[axis] for axis in tiles.order[1:]]
        shape = (channels, tiles.depth, *sides)
        try:
            self._values = torch.zeros(shape, dtype=torch.float32, device=device)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"the logits that are not finished ({' x '.join(map(str, shape))}, "
                f"{4 * math.prod(shape) / 1e9:.2f} GB) do not fit into the memory of {device}: use "
                "smaller tiles, or another device."
            ) from error
        self.start = 0

    def add(self, tile: Sequence[AxisTile], result: Tensor) -> None:
        """Add the logits ``(channels, ...)`` of one tile."""
        window, weights = self._values, torch.ones((), device=self._values.device)
        for place, axis in enumerate(self._order):
            along = tile[axis]
            size = along.stop - along.first
            begin = along.first - (self.start if place == 0 else 0)
            window = window.narrow(place + 1, begin, size)
            result = result.narrow(axis + 1, along.offset, size)
            weights = weights.unsqueeze(-1) * self._on_device(axis, along)
        shares = result.to(self._values.device).permute(0, *(1 + axis for axis in self._order))
        window.addcmul_(shares, weights)

    def slab(self, count: int, disagreement: bool) -> Slab:
        """Return the first planes, in the array order of the volume."""
        axis = self._order[0]
        values = self._values.narrow(1, 0, count).movedim(1, axis + 1)
        logits, last = (values[:-1], values[-1]) if disagreement else (values, None)
        return Slab(axis, self.start, self.start + count, logits, last)

    def discard(self, count: int) -> None:
        """Forget the first planes and make room for as many at the end."""
        depth = self._values.shape[1]
        discard_planes(self._values, 1, count, depth)
        self._values.narrow(1, depth - count, count).zero_()
        self.start += count

    def _on_device(self, axis: int, along: AxisTile) -> Tensor:
        key = (axis, along.first)
        if key not in self._weights:
            self._weights[key] = along.weights.to(self._values.device)
        return self._weights[key]
