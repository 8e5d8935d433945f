"""Where the tiles of a volume lie and how much each of their voxels counts.

Tile starts are a grid and blending weights are products of one profile an axis, so all of it is
computed an axis at a time. On each axis the weights of all tiles are divided by their sum: a tile
is then multiplied by one vector an axis, and the weights of a voxel sum to one everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from volseg.errors import InputError

# A far corner must keep a weight that float32 can divide by, or a voxel seen by one tile only
# would be divided by nothing.
_LEAST_WEIGHT = 1e-4

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class AxisTile:
    """One tile along one axis.

    Attributes:
        start: First input voxel; negative, and the end beyond the side, where the tile is padded.
        first: First voxel of the volume that gets a share of this tile's result.
        stop: One past the last such voxel.
        offset: Where in the network's result the voxel ``first`` lies.
        weights: Share of each voxel from ``first`` to ``stop``, float32; those of all tiles of the
            axis sum to one.
    """

    start: int
    first: int
    stop: int
    offset: int
    weights: Tensor


@dataclass(frozen=True)
class Tiling:
    """How volumes are cut into tiles: use `blended`, `valid` or `exact`.

    Attributes:
        tile: Voxels the network gets along each axis.
        overlap: Least share of a tile's result that the next one covers.
        blending: ``gaussian`` or ``constant`` weights.
        margin: Voxels of the result dropped at tile faces inside the volume.
        border: Voxels a face of the tile gets no result for (networks of valid convolutions);
            where it leaves the volume, the volume is mirrored.
        lattice: Tile starts are multiples of this.

    Raises:
        InputError: A value is out of range.
    """

    tile: tuple[int, ...]
    overlap: tuple[float, ...]
    blending: str
    margin: tuple[int, ...]
    border: tuple[int, ...]
    lattice: tuple[int, ...]

    @classmethod
    def blended(
        cls,
        tile: Sequence[int],
        *,
        overlap: float | Sequence[float] = 0.5,
        blending: str = "gaussian",
        margin: int | Sequence[int] = 0,
    ) -> Tiling:
        """Return overlapping tiles of a network of padded convolutions, blended.

        Sides smaller than the tile are padded with zeros, evenly on both faces.
        """
        dims = len(tile)
        return cls(
            tuple(int(size) for size in tile),
            _an_axis("overlap", overlap, dims),
            blending,
            _an_axis("margin", margin, dims),
            (0,) * dims,
            (1,) * dims,
        )

    @classmethod
    def valid(cls, tile: Sequence[int], *, border: int | Sequence[int]) -> Tiling:
        """Return the overlap-tile strategy for a network of valid convolutions.

        Results abut exactly and are not blended; the border of the volume is mirrored
        (Ronneberger, Fischer, Brox, MICCAI 2015, figure 2).

        Args:
            tile: Voxels the network gets along each axis.
            border: Voxels by which the result is shorter, at each face.
        """
        dims = len(tile)
        sizes, borders = tuple(int(size) for size in tile), _an_axis("border", border, dims)
        results = tuple(max(1, size - 2 * lost) for size, lost in zip(sizes, borders, strict=True))
        return cls(sizes, (0.0,) * dims, "constant", (0,) * dims, borders, results)

    @classmethod
    def exact(
        cls,
        tile: Sequence[int],
        *,
        context: int | Sequence[int] = 0,
        stride: int | Sequence[int],
        border: int | Sequence[int] = 0,
    ) -> Tiling:
        """Return tiles that give what one run over the whole padded volume would give.

        That volume is padded evenly to whole strides (at least the tile): with zeros, or mirrored
        where ``border`` is given.

        Args:
            tile: Voxels the network gets along each axis.
            context: Voxels dropped at tile faces inside the volume, at least the radius of the
                receptive field (`measure_receptive_field`); 0 for networks of valid convolutions.
            stride: Total stride of the network: the product of its poolings.
            border: Voxels by which a valid network's result is shorter, at each face.

        Raises:
            InputError: A tile of padded convolutions is no multiple of the stride, or too small.
        """
        dims = len(tile)
        strides, borders = _an_axis("stride", stride, dims), _an_axis("border", border, dims)
        sizes = tuple(int(size) for size in tile)
        for size, step, lost in zip(sizes, strides, borders, strict=True):
            if step >= 1 and lost == 0 and size % step:
                raise InputError(
                    f"exact tiles must be multiples of the network's stride {list(strides)}, got "
                    f"{list(sizes)}."
                )
        margins = _an_axis("context", context, dims)
        return cls(sizes, (0.0,) * dims, "constant", margins, borders, strides)

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3) or min(self.tile) < 1:
            raise InputError(f"tile must have 2 or 3 positive sides, got {list(self.tile)}.")
        if not all(0 <= share < 1 for share in self.overlap):
            raise InputError(f"overlap must be numbers in [0, 1), got {list(self.overlap)}.")
        if self.blending not in ("gaussian", "constant"):
            raise InputError(f"blending must be 'gaussian' or 'constant', got {self.blending!r}.")
        for name, values, least in (
            ("margin", self.margin, 0),
            ("border", self.border, 0),
            ("stride", self.lattice, 1),
        ):
            if min(values) < least:
                raise InputError(f"{name} must be numbers from {least} up, got {list(values)}.")
        for size, margin, step in zip(self.result, self.margin, self.lattice, strict=True):
            if size - 2 * margin < step:
                raise InputError(
                    f"a margin of {list(self.margin)} and a border of {list(self.border)} leave "
                    f"nothing of a tile of {list(self.tile)} to move by {list(self.lattice)}: use "
                    "larger tiles."
                )

    @property
    def spatial_dims(self) -> int:
        """The number of axes, 2 or 3."""
        return len(self.tile)

    @property
    def result(self) -> tuple[int, ...]:
        """The voxels of a tile that the network returns, an axis each."""
        return tuple(size - 2 * lost for size, lost in zip(self.tile, self.border, strict=True))

    def along(self, axis: int, side: int) -> list[AxisTile]:
        """Return the tiles along one axis of a volume with ``side`` voxels, in order."""
        size, margin, border = self.result[axis], self.margin[axis], self.border[axis]
        lattice = self.lattice[axis]
        span = -(-max(0, side - size) // lattice) * lattice
        before = (size + span - side) // 2
        step = min(int(size * (1 - self.overlap[axis])), size - 2 * margin)
        profile = _profile(self.blending, size)
        pieces = []
        for place in _starts(span, step, lattice):
            first = max(place + (margin if place > 0 else 0), before)
            stop = min(place + size - (margin if place < span else 0), before + side)
            pieces.append((place, first, stop, profile[first - place : stop - place]))
        total = torch.zeros(size + span, dtype=torch.float64)
        for _, first, stop, weights in pieces:
            total[first:stop] += weights
        return [
            AxisTile(
                start=place - before - border,
                first=first - before,
                stop=stop - before,
                offset=first - place,
                weights=(weights / total[first:stop]).to(torch.float32),
            )
            for place, first, stop, weights in pieces
        ]

    def live_depth(self, axis: int, side: int) -> int:
        """Return how many planes of a result are unfinished at once, streaming along ``axis``."""
        return max(tile.stop - tile.first for tile in self.along(axis, side))

    def streaming_axis(self, sides: Sequence[int]) -> int:
        """Return the axis along which streaming a volume of these sides needs least memory."""

        def share(axis: int) -> float:
            return self.live_depth(axis, sides[axis]) / sides[axis]

        return min(range(self.spatial_dims), key=share)


def gaussian_weights(tile: Sequence[int]) -> Tensor:
    """Return blending weights of shape ``tile``, largest in the middle, positive everywhere.

    A Gaussian whose standard deviation is an eighth of the tile (nnU-Net), not yet divided by the
    sum over overlapping tiles.
    """
    weights = torch.ones(tuple(tile), dtype=torch.float32)
    for axis, size in enumerate(tile):
        profile = _profile("gaussian", size).to(torch.float32)
        weights *= profile.reshape([-1 if a == axis else 1 for a in range(len(tile))])
    return weights


def _starts(span: int, step: int, lattice: int = 1) -> list[int]:
    """Return the fewest starts from 0 to ``span`` at most ``step`` apart, on the lattice."""
    step = max(1, step // lattice) * lattice
    count = 1 + math.ceil(span / step)
    even = span / max(1, count - 1) / lattice
    return [round(index * even) * lattice for index in range(count)]


def _profile(blending: str, size: int) -> Tensor:
    """Return the weights of a tile along one axis, float64."""
    if blending == "constant":
        return torch.ones(size, dtype=torch.float64)
    centred = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-0.5 * (centred / (size / 8)) ** 2).clamp_min(_LEAST_WEIGHT)


def _an_axis(option: str, value: _Number | Sequence[_Number], dims: int) -> tuple[_Number, ...]:
    """Return one number for each axis; a single one stands for all."""
    values = (value,) * dims if isinstance(value, int | float) else tuple(value)
    if len(values) != dims:
        raise InputError(f"{option} must be one number or {dims} numbers, got {value}.")
    return values
