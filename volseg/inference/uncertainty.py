"""How sure a segmentation is: entropy of the probabilities, disagreement of the passes.

Both lie between 0 and 1 and are 0 where nothing speaks against the label.

- Entropy of a voxel with class probabilities p: -sum(p log p) / log(classes). Where regions may
  overlap, each is a yes or no of its own: the mean over regions of its binary entropy / log(2).
- Disagreement of the passes (members of an ensemble, mirrored tiles) with probabilities p_m: what
  the entropy of their mean exceeds the mean of their entropies by, H(mean p_m) - mean H(p_m). It
  is the mutual information of label and pass (Depeweg et al., ICML 2018), the generalised
  Jensen-Shannon divergence, 0 where all passes say the same and at most log(passes); it is divided
  by that, or by the logarithm of the classes where there are fewer of them. It is measured in each
  tile, where all passes are at hand, and blended over tiles like a logit: one more channel
  whatever the number of passes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from volseg.errors import InputError


def entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Return -sum(p log p) over an axis, in nats, 0 where p is 0."""
    total: Tensor = torch.special.entr(probabilities).sum(dim)
    return total


def binary_entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Return the mean over an axis of the entropy of yes-or-no probabilities, in nats."""
    both: Tensor = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
    return both.mean(dim)


class Disagreement:
    """The disagreement of passes that come one after another; holds the sum of two things only.

    Args:
        kind: ``classes`` (one label a voxel, softmax; a single channel is the foreground, sigmoid)
            or ``regions`` (each on its own, sigmoid).

    Raises:
        InputError: Another kind.
    """

    def __init__(self, kind: str) -> None:
        if kind not in ("classes", "regions"):
            raise InputError(f"disagreement must be 'classes' or 'regions', got {kind!r}.")
        self._classes = kind == "classes"
        self._probabilities: Tensor | None = None
        self._entropies: Tensor | None = None
        self._passes = 0

    def add(self, logits: Tensor) -> None:
        """Take the logits ``(tiles, classes, ...)`` of one pass."""
        self._classes &= logits.shape[1] > 1
        probabilities = logits.softmax(1) if self._classes else logits.sigmoid()
        entropies = self._entropy(probabilities)
        if self._probabilities is None or self._entropies is None:
            self._probabilities, self._entropies = probabilities, entropies
        else:
            self._probabilities += probabilities
            self._entropies += entropies
        self._passes += 1

    def value(self) -> Tensor:
        """Return the disagreement ``(tiles, 1, ...)`` of the passes taken."""
        if self._probabilities is None or self._entropies is None:
            raise InputError("disagreement needs the logits of at least one pass, got none.")
        most = min(self._passes, self._probabilities.shape[1] if self._classes else 2)
        mean = self._entropy(self._probabilities / self._passes)
        excess = mean - self._entropies / self._passes
        return (excess / math.log(max(2, most))).clamp(0, 1).unsqueeze(1)

    def _entropy(self, probabilities: Tensor) -> Tensor:
        return (entropy if self._classes else binary_entropy)(probabilities, 1)
