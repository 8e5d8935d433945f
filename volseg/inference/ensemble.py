"""Several passes over a tile as one: the mean of logits over networks and mirrored tiles.

The mean is taken tile by tile, so an ensemble needs one accumulator, not one a member.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from volseg.errors import InputError, ShapeError
from volseg.inference.uncertainty import Disagreement

Network = Callable[..., Any]


class Ensemble:
    """A callable that runs its members over tiles and returns the mean of their logits.

    Args:
        networks: Callables from ``(tiles, channels, *tile)`` to logits ``(tiles, classes, ...)``:
            one network, or the folds or bundles of an ensemble.
        mirror_axes: Spatial axes, from 0, along which tiles are mirrored: every network sees every
            combination, ``2 ** len(mirror_axes)`` passes, each mirrored back.
        border: Voxels a face by which the logits are shorter than the tile, an axis each.
        disagreement: How far the passes differ, appended as one more channel (see
            `volseg.inference.uncertainty`); ``classes`` or ``regions`` says what logits mean.

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
        disagreement: str | None = None,
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
        if disagreement is not None and self.passes < 2:
            raise InputError(
                "disagreement needs at least two passes over a tile, got one network without "
                "mirroring: give more networks or mirror_axes."
            )
        self._border = tuple(border)
        self._disagreement = disagreement
        self.extra_channels = 0 if disagreement is None else 1

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return mean logits ``(tiles, classes, ...)``, and the disagreement as last channel.

        Raises:
            ShapeError: A network returned something else than one tensor of the expected size.
        """
        total: Tensor | None = None
        spread = None if self._disagreement is None else Disagreement(self._disagreement)
        for network, axes in itertools.product(self.networks, self.mirrors):
            with torch.no_grad():
                logits = network(tiles.flip(axes) if axes else tiles)
            logits = self._checked(logits, tiles)
            logits = logits.flip(axes) if axes else logits
            if spread is not None:
                spread.add(logits)
            # The first logits may be the network's own buffer: they are not written to.
            if total is None:
                total = logits
            elif total.shape != logits.shape:
                raise ShapeError(
                    f"the networks of an ensemble returned {tuple(total.shape)} and "
                    f"{tuple(logits.shape)}: expected the same classes from all of them."
                )
            else:
                total = total + logits
        mean = total / self.passes if total is not None and self.passes > 1 else total
        if mean is None:
            raise ShapeError(f"there is nothing to infer in tiles of {tuple(tiles.shape)}.")
        return mean if spread is None else torch.cat([mean, spread.value()], dim=1)

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
