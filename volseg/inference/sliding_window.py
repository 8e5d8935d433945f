"""Sliding-window inference for volumes larger than a network takes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor
from torch.nn import functional

from volseg.errors import Cancelled, InputError, ShapeError
from volseg.inference.tiling import gaussian_weights, inner_weights, tile_starts

Progress = Callable[[int, int], None]


class SlidingWindowInferer(Inferer):
    """Run a callable over overlapping tiles and blend what it returns.

    Equals the untiled computation wherever the weights come only from voxels whose whole
    receptive field lies in a tile: give ``margin`` at least the network's receptive-field radius
    (and tile starts on multiples of its stride) for that; without it tiles are blended.

    Args:
        tile: Tile size in voxels, an entry per spatial axis.
        overlap: Least overlap of neighbouring tiles as a share of the tile, one or an axis each.
        blending: ``gaussian`` or ``constant`` weights.
        margin: Voxels dropped at tile faces inside the volume, one or an axis each.
        tile_batch: Tiles the callable gets at once.
        mixed_precision: float16 autocast on a GPU; no effect on a CPU.
        progress: Called as ``progress(done, total)`` after each batch of tiles.
        cancelled: Asked before each batch of tiles; ``True`` raises `Cancelled`.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        tile: Sequence[int],
        *,
        overlap: float | Sequence[float] = 0.5,
        blending: str = "gaussian",
        margin: int | Sequence[int] = 0,
        tile_batch: int = 1,
        mixed_precision: bool = False,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.tile = tuple(int(size) for size in tile)
        dims = len(self.tile)
        shares = [overlap] * dims if isinstance(overlap, int | float) else list(overlap)
        margins = [margin] * dims if isinstance(margin, int) else list(margin)
        if dims not in (2, 3) or min(self.tile) < 1:
            raise InputError(f"tile must have 2 or 3 positive sides, got {list(self.tile)}.")
        if len(shares) != dims or not all(0 <= share < 1 for share in shares):
            raise InputError(f"overlap must be {dims} numbers in [0, 1), got {overlap}.")
        if blending not in ("gaussian", "constant"):
            raise InputError(f"blending must be 'gaussian' or 'constant', got {blending!r}.")
        if tile_batch < 1:
            raise InputError(f"tile_batch must be at least 1, got {tile_batch}.")
        if len(margins) != dims or min(margins) < 0:
            raise InputError(f"margin must be {dims} numbers from 0 up, got {margin}.")
        # Neighbouring tiles must still meet after both have lost their margin.
        self.overlap = tuple(
            max(share, min(2 * drop / size, 1 - 1 / size))
            for share, drop, size in zip(shares, margins, self.tile, strict=True)
        )
        if any(2 * drop >= size for drop, size in zip(margins, self.tile, strict=True)):
            raise InputError(
                f"a margin of {margin} leaves nothing of a tile of {list(self.tile)}: "
                "use tiles larger than twice the margin."
            )
        self.margin = tuple(margins)
        self.blending = blending
        self.tile_batch = tile_batch
        self.mixed_precision = mixed_precision
        self.progress = progress
        self.cancelled = cancelled

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        *args: Any,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return ``network(inputs)`` computed tile by tile.

        Args:
            inputs: ``(batch, channels, ...)``; sides smaller than the tile are padded with zeros
                (evenly on both faces) and the result is cropped back.
            network: Callable from ``(tiles, channels, *tile)`` to one tensor
                ``(tiles, classes, *tile)``.
            *args: Passed on to ``network``.
            progress: Overrides the one given to the constructor.
            cancelled: Overrides the one given to the constructor.
            **kwargs: Passed on to ``network``.

        Returns:
            Float tensor ``(batch, classes, ...)`` on the grid of ``inputs``, of the type of
            ``inputs`` (a `MetaTensor` keeps its affine).

        Raises:
            ShapeError: The number of axes does not fit, or the callable changed the tile's size.
            Cancelled: ``cancelled()`` was true.
        """
        progress = progress or self.progress
        cancelled = cancelled or self.cancelled
        dims = len(self.tile)
        if inputs.ndim != dims + 2:
            raise ShapeError(
                f"tiles of {dims} axes need inputs of {dims + 2} axes (batch, channels, "
                f"{', '.join('xyz'[:dims])}), got {tuple(inputs.shape)}."
            )
        # Plain tensors inside: a MetaTensor would track every slice.
        volume = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        volume, crop = _pad_to(volume, self.tile)
        sides = volume.shape[2:]
        starts = tile_starts(sides, self.tile, self.overlap)
        jobs = [(item, start) for item in range(volume.shape[0]) for start in starts]
        base = (
            gaussian_weights(self.tile)
            if self.blending == "gaussian"
            else torch.ones(self.tile, dtype=torch.float32)
        ).to(volume.device)

        total: Tensor | None = None
        weight = torch.zeros((1, 1, *sides), dtype=torch.float32, device=volume.device)
        for first in range(0, len(jobs), self.tile_batch):
            if cancelled is not None and cancelled():
                raise Cancelled(f"inference was cancelled after {first} of {len(jobs)} tiles.")
            batch = jobs[first : first + self.tile_batch]
            windows = [_window(start, self.tile) for _, start in batch]
            tiles = torch.cat(
                [
                    volume[item : item + 1, :, *w]
                    for (item, _), w in zip(batch, windows, strict=True)
                ]
            )
            with self._precision(volume.device):
                logits = network(tiles, *args, **kwargs)
            logits = _checked(logits, tiles)
            if total is None:
                total = torch.zeros(
                    (volume.shape[0], logits.shape[1], *sides),
                    dtype=torch.float32,
                    device=volume.device,
                )
            for (item, start), window, result in zip(batch, windows, logits, strict=True):
                share = inner_weights(base, start, sides, self.margin)
                total[item][(slice(None), *window)] += result * share
                if item == 0:
                    weight[0, 0][window] += share
            if progress is not None:
                progress(min(first + self.tile_batch, len(jobs)), len(jobs))
        if total is None:
            raise ShapeError(f"there is nothing to infer in an input of {tuple(inputs.shape)}.")
        blended = (total / weight)[:, :, *crop]
        return _like(blended, inputs)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.mixed_precision and device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.float16)
        return nullcontext()


def _window(start: Sequence[int], tile: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(start, tile, strict=True))


def _pad_to(volume: Tensor, tile: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad with zeros to at least the tile; also return where the original lies."""
    padding: list[int] = []
    crop: list[slice] = []
    for side, size in zip(volume.shape[2:], tile, strict=True):
        before = max(0, size - side) // 2
        after = max(0, size - side) - before
        padding = [before, after, *padding]  # torch pads the last axis first
        crop.append(slice(before, before + side))
    return (functional.pad(volume, padding) if any(padding) else volume), tuple(crop)


def _checked(logits: Any, tiles: Tensor) -> Tensor:
    if not isinstance(logits, Tensor):
        raise ShapeError(
            f"the network returned a {type(logits).__name__} for a batch of tiles, expected one "
            "tensor: put it into evaluation mode with .eval()."
        )
    if logits.ndim != tiles.ndim or logits.shape[2:] != tiles.shape[2:]:
        raise ShapeError(
            f"the network returned {tuple(logits.shape)} for tiles of {tuple(tiles.shape)}: "
            "expected the same batch and spatial size."
        )
    return logits.float()


def _like(result: Tensor, inputs: Tensor) -> Tensor:
    """Give ``result`` the geometry and history of ``inputs``, as network outputs in MONAI have."""
    if not hasattr(inputs, "as_tensor"):
        return result
    from monai.data import MetaTensor  # noqa: PLC0415 - only where metadata is in play

    like: Tensor = MetaTensor(result).copy_meta_from(inputs)
    return like
