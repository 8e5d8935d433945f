"""The settings of inference that tuning tries: tiles, overlaps, mirroring, precisions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from volseg.errors import InputError, ShapeError
from volseg.inference import SlidingWindowInferer, Tiling
from volseg.predictors import tile_shapes

_GROWTH = (1.5, 2.0)  # of each side: twice of all three holds eight times the memory
_LARGEST_STRIDE = 64


@dataclass(frozen=True)
class Setting:
    """How a volume is cut into tiles and computed; options of the inferer.

    Attributes:
        tile: Voxels the network sees at once, an entry an axis.
        overlap: Least share of a tile that the next one covers.
        mirror_axes: Axes along which tiles are also shown mirrored.
        precision: ``f32``, ``bf16`` or ``f16``.
    """

    tile: tuple[int, ...]
    overlap: float
    mirror_axes: tuple[int, ...]
    precision: str

    def options(self) -> dict[str, Any]:
        """Return the setting for `Segmenter`, which then refuses a precision it cannot have."""
        return {**self.to_json(), "require_precision": True}

    def to_json(self) -> dict[str, Any]:
        """Return the setting as plain values."""
        plain = asdict(self)
        return {**plain, "tile": list(self.tile), "mirror_axes": list(self.mirror_axes)}

    def describe(self) -> str:
        """Return the setting as it is spoken."""
        axes = "".join("xyz"[axis] for axis in self.mirror_axes)
        return (
            f"tile {' x '.join(map(str, self.tile))}, overlap {self.overlap:g}, "
            f"{f'mirrored along {axes}' if axes else 'not mirrored'}, {self.precision}"
        )

    def distance(self, other: Setting) -> tuple[float, ...]:
        """Return how far another is away: in how many options, then by how much."""
        ours, theirs = asdict(self), asdict(other)
        growth = abs(math.log(math.prod(self.tile) / math.prod(other.tile)))
        return (
            sum(ours[name] != theirs[name] for name in ours),
            growth,
            abs(self.overlap - other.overlap),
        )


def setting_of(
    inferer: Any, network: nn.Module, channels: int, device: torch.device, where: str
) -> Setting:
    """Return the setting a bundle has.

    Raises:
        InputError: Its tiles are not overlapping and blended, so that there is nothing to choose.
    """
    if isinstance(inferer, SlidingWindowInferer):
        tiling = inferer.tiling(network, channels)
        blended = Tiling.blended(
            tiling.tile,
            overlap=tiling.overlap[0],
            blending=tiling.blending,
            margin=tiling.margin,
        )
        if tiling == blended:
            automatic = "f32" if device.type == "cpu" else "f16"
            precision = automatic if inferer.precision == "auto" else inferer.precision
            return Setting(tiling.tile, tiling.overlap[0], inferer.mirror_axes, precision)
    raise InputError(
        f"{where} does not blend overlapping tiles (volseg.inference.SlidingWindowInferer, one "
        "overlap for all axes), so there is no setting to tune."
    )


def propose_settings(
    present: Setting,
    *,
    tiles: Iterable[Sequence[int]],
    overlaps: Iterable[float],
    mirrorings: Iterable[Sequence[int]],
    precisions: Iterable[str],
) -> list[Setting]:
    """Return every combination, and the present setting, each once.

    Raises:
        InputError: A tile has another number of axes, or a number is out of range.
    """
    dims = len(present.tile)
    combinations = itertools.product(tiles, overlaps, mirrorings, precisions)
    found = [
        Setting(tuple(tile), float(overlap), tuple(axes), precision)
        for tile, overlap, axes, precision in combinations
    ]
    for setting in found:
        if len(setting.tile) != dims:
            raise InputError(
                f"the tile {list(setting.tile)} has {len(setting.tile)} sides; expected {dims}, "
                "one an axis."
            )
        Tiling.blended(setting.tile, overlap=setting.overlap)  # says what is out of range
    return list(dict.fromkeys([present, *found]))


def cut_alike(
    settings: Sequence[Setting], shapes: Iterable[Sequence[int]], present: Setting
) -> dict[Setting, Setting]:
    """Return the settings that cut every volume as another one does, and that other.

    They differ in the overlap alone, which the fewest tiles that cover a volume often exceed. Of
    those that are alike the one nearest to the present overlap is kept.

    Args:
        settings: What is to be tried.
        shapes: Spatial sizes of the volumes on the network's grid.
        present: The present setting.
    """
    shapes = sorted({tuple(shape) for shape in shapes})
    kept: dict[Any, Setting] = {}
    doubles: dict[Setting, Setting] = {}
    nearest_first = sorted(settings, key=lambda setting: abs(setting.overlap - present.overlap))
    for setting in nearest_first:
        tiling = Tiling.blended(setting.tile, overlap=setting.overlap)
        cuts = tuple(
            tuple(piece.start for piece in tiling.along(axis, side))
            for shape in shapes
            for axis, side in enumerate(shape)
        )
        key = (setting.tile, setting.mirror_axes, setting.precision, cuts)
        if kept.setdefault(key, setting) is not setting:
            doubles[setting] = kept[key]
    return doubles


def grown_tiles(
    patch: Sequence[int],
    largest: Sequence[int],
    takes: Callable[[Sequence[int]], bool],
) -> list[tuple[int, ...]]:
    """Return the patch and larger tiles, where volumes are larger than the patch.

    Each side grows by half and to its double, in steps the network takes, and no further than the
    largest volume.

    Args:
        patch: What the network was trained on, in voxels.
        largest: The largest side of the volumes along each axis.
        takes: Whether the network takes tiles of a size.
    """
    steps = [
        _step(patch, axis, takes) if largest[axis] > patch[axis] else None
        for axis in range(len(patch))
    ]
    tiles = [tuple(patch)]
    for factor in _GROWTH:
        sides = []
        for side, most, step in zip(patch, largest, steps, strict=True):
            added = 0
            if step is not None:
                wanted = min(side * factor, most) - side
                added = math.ceil(wanted / step) * step
            sides.append(side + added)
        tiles.append(tuple(sides))
    return [tile for tile in dict.fromkeys(tiles) if takes(tile)]


def takes_tiles(network: nn.Module, channels: int) -> Callable[[Sequence[int]], bool]:
    """Return what tells whether a network gives logits of the size of a tile."""

    def takes(tile: Sequence[int]) -> bool:
        try:
            shapes = tile_shapes(network, channels, tile)
        except ShapeError:
            return False
        return shapes.logits[1:] == tuple(tile)

    return takes


def _step(patch: Sequence[int], axis: int, takes: Callable[[Sequence[int]], bool]) -> int | None:
    """Return the smallest growth of one side that the network takes; None if there is none."""
    for step in range(1, _LARGEST_STRIDE + 1):
        sides = list(patch)
        sides[axis] += step
        if takes(sides):
            return step
    return None
