"""Several passes over a tile as one: mirrored tiles of a network, networks of an ensemble.

A network's logits are the mean over its mirrored tiles. An ensemble's are those of the mean of its
networks' probabilities: each has its say as it would have alone. Means are taken tile by tile, so
an ensemble needs one accumulator, not one a member.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from volseg.errors import InputError, ShapeError
from volseg.inference.uncertainty import Disagreement
from volseg.networks import ProbabilityMean

Network = Callable[..., Any]


class Ensemble:
    """A callable that runs its members over tiles and returns the logits of their mean.

    Args:
        networks: Callables from ``(tiles, channels, *tile)`` to logits ``(tiles, classes, ...)``:
            one network, or the folds or bundles of an ensemble.
        mirror_axes: Spatial axes, from 0, along which tiles are mirrored: every network sees every
            combination, ``2 ** len(mirror_axes)`` passes, each mirrored back.
        border: Voxels a face by which the logits are shorter than the tile, an axis each.
        kind: What channels of logits are: ``classes`` or ``regions``.
        disagreement: Append as one more channel how far the passes differ (see
            `volseg.inference.uncertainty`).

    Raises:
        InputError: No network, a mirrored axis that is not there or is named twice, or only one
            pass to disagree with.
    """

    def __init__(
        self,
        networks: Network | Sequence[Network],
        *,
        mirror_axes: Sequence[int] = (),
        border: Sequence[int],
        kind: str = "classes",
        disagreement: bool = False,
    ) -> None:
        self.networks = [networks] if callable(networks) else list(networks)
        dims = len(border)
        if not self.networks:
            raise InputError("an ensemble needs at least one network, got none.")
        if len(set(mirror_axes)) != len(mirror_axes) or not set(mirror_axes) <= set(range(dims)):
            raise InputError(
                f"mirror_axes must be different spatial axes from 0 to {dims - 1}, got "
                f"{list(mirror_axes)}."
            )
        self.mirrors = [
            tuple(2 + axis for axis in axes)
            for count in range(len(mirror_axes) + 1)
            for axes in itertools.combinations(mirror_axes, count)
        ]
        self.passes = len(self.networks) * len(self.mirrors)
        if disagreement and self.passes < 2:
            raise InputError(
                "disagreement needs at least two passes over a tile, got one network without "
                "mirroring: give more networks or mirror_axes."
            )
        self._border = tuple(border)
        self._kind = kind
        self._disagreement = disagreement

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return mean logits ``(tiles, classes, ...)``, and the disagreement as last channel.

        Raises:
            ShapeError: A network returned something else than one tensor of the expected size.
        """
        if not len(tiles):
            raise ShapeError(f"there is nothing to infer in tiles of {tuple(tiles.shape)}.")
        spread = Disagreement(self._kind) if self._disagreement else None
        if len(self.networks) == 1:
            logits = self._mirrored(self.networks[0], tiles, spread)
        else:
            mean = ProbabilityMean(self._kind)
            for network in self.networks:
                mean.add(self._mirrored(network, tiles, spread))
            logits = mean.logits()
        return logits if spread is None else torch.cat([logits, spread.value()], dim=1)

    def _mirrored(self, network: Network, tiles: Tensor, spread: Disagreement | None) -> Tensor:
        """Return the mean logits of a network over mirrored tiles; all of them enter the spread."""
        total: Tensor | None = None
        for axes in self.mirrors:
            with torch.no_grad():
                logits = network(tiles.flip(axes) if axes else tiles)
            logits = self._checked(logits, tiles)
            logits = logits.flip(axes) if axes else logits
            if spread is not None:
                spread.add(logits)
            # The first logits may be the network's own buffer: they are not written to.
            total = logits if total is None else total + logits
        mean = cast(Tensor, total)
        return mean / len(self.mirrors) if len(self.mirrors) > 1 else mean

    def _checked(self, logits: Any, tiles: Tensor) -> Tensor:
        if not isinstance(logits, Tensor):
            raise ShapeError(
                f"the network returned a {type(logits).__name__} for a batch of tiles, expected "
                "one tensor: put it into evaluation mode with .eval()."
            )
        expected = [
            size - 2 * lost for size, lost in zip(tiles.shape[2:], self._border, strict=True)
        ]
        if (
            logits.ndim != tiles.ndim
            or len(logits) != len(tiles)
            or list(logits.shape[2:]) != expected
        ):
            raise ShapeError(
                f"the network returned {tuple(logits.shape)} for tiles of {tuple(tiles.shape)}: "
                f"expected the same batch and spatial size, less a border of "
                f"{list(self._border)} at each face."
            )
        return logits.float()
