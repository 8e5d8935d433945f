"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from volseg.errors import InputError, ShapeError

KINDS = ("classes", "regions")


class ProbabilityMean:
    """The mean of probabilities, taken in and given as logits; holds sums only.

    Of classes the logits of the mean are log(mean of softmax), of regions those whose sigmoid is
    the mean of sigmoids. Sums are taken of logarithms, so that no probability is lost to rounding.

    Args:
        kind: ``classes`` (one label a voxel, softmax; a single channel is the foreground, sigmoid)
            or ``regions`` (each on its own, sigmoid).

    Raises:
        InputError: Another kind.
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise InputError(f"channels of logits are 'classes' or 'regions', got {kind!r}.")
        self._classes = kind == "classes"
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, logits: Tensor) -> None:
        """Take the logits ``(tiles, channels, ...)`` of one network.

        Raises:
            ShapeError: They have another shape than those before.
        """
        if self._sums and self._sums[0].shape != logits.shape:
            raise ShapeError(
                f"the networks of an ensemble returned {tuple(self._sums[0].shape)} and "
                f"{tuple(logits.shape)}: expected the same classes from all of them."
            )
        self._classes &= logits.shape[1] > 1
        if self._classes:
            self._add(0, logits.log_softmax(1))
        else:  # of yes and of no, one after the other
            self._add(0, logsigmoid(logits))
            self._add(1, logsigmoid(-logits))
        self._count += 1

    def _add(self, place: int, logarithms: Tensor) -> None:
        if not self._count:
            self._sums.append(logarithms)
        else:
            self._sums[place] = torch.logaddexp(self._sums[place], logarithms)

    def logits(self) -> Tensor:
        """Return the logits of the mean.

        Raises:
            InputError: Nothing was taken.
        """
        if not self._sums:
            raise InputError("a mean of probabilities needs at least one network, got none.")
        if self._classes:
            return self._sums[0] - math.log(self._count)
        return self._sums[0] - self._sums[1]


class NetworkEnsemble(nn.Module):
    """Networks that see the same input, as one that returns the mean of their probabilities.

    Inference runs its members one by one, each as fast as its machine allows
    (`volseg.inference.SlidingWindowInferer`); called as a network it does the same in one go. It is
    not trained: its members were.

    Args:
        networks: The members, of the same channels in and out; `state_dict` has their weights
            under ``networks.0.``, ``networks.1.``, ...
        kind: ``classes`` or ``regions``; see `ProbabilityMean`.

    Raises:
        InputError: There is no network, or another kind.
    """

    def __init__(self, networks: Sequence[nn.Module], *, kind: str = "classes") -> None:
        super().__init__()
        if not networks:
            raise InputError("an ensemble needs at least one network, got none.")
        self.networks = nn.ModuleList(networks)
        self.kind = kind
        ProbabilityMean(kind)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(batch, channels, ...)`` of images ``(batch, image channels, ...)``.

        Raises:
            InputError: It is in training mode.
        """
        if self.training:
            raise InputError(
                "an ensemble of networks is not trained: train its members, and put it into "
                "evaluation mode with .eval()."
            )
        if len(self.networks) == 1:
            alone: Tensor = self.networks[0](images)
            return alone
        mean = ProbabilityMean(self.kind)
        for network in self.networks:
            mean.add(network(images))
        return mean.logits()
