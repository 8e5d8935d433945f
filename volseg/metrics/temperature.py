"""The temperature that calibrates a network: one number that all logits are divided by.

It changes how sure the network says to be and never what it says: the largest logit stays the
largest, and of a region the sign stays (C. Guo et al., "On calibration of modern neural networks",
ICML 2017, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from volseg.errors import InputError, ShapeError

_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """The temperature that fits best.

    Attributes:
        value: What logits are to be divided by; above 1 where the network is too sure.
        before: Negative log-likelihood in nats a voxel without it, of regions the mean over them.
        after: The same with it.
        voxels: How many it was fitted to.
    """

    value: float
    before: float
    after: float
    voxels: int


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike) -> Temperature:
    """Return the temperature of the smallest negative log-likelihood.

    The likelihood has a single maximum in the temperature, which a bounded search finds. Give
    voxels of cases the network was not trained on; some 100,000 drawn among them are enough. The
    logarithms of softmax probabilities do in place of logits.

    Args:
        logits: ``(channels, voxels)``.
        targets: The class of each voxel ``(voxels,)``; of regions ``(channels, voxels)`` booleans.

    Raises:
        ShapeError: The two do not belong together.
        InputError: There is no voxel, a logit is not finite or a class has no channel.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    regions = truth.ndim == 2
    if scores.ndim != 2 or truth.shape != (scores.shape if regions else scores.shape[1:]):
        raise ShapeError(
            f"logits of the shape {scores.shape} and targets of the shape {truth.shape} do not "
            "belong together; expected (channels, voxels), and (voxels,) or, of regions, the same."
        )
    if not scores.size or not np.isfinite(scores).all():
        raise InputError("a temperature is fitted to finite logits of one voxel or more.")
    if regions:
        signed = np.where(truth.astype(bool), scores, -scores)
    else:
        _require_classes(truth, len(scores))

    def loss(logarithm: float) -> float:
        inverse = np.exp(-logarithm)
        if regions:
            return -float(log_expit(signed * inverse).mean())
        likelihood = log_softmax(scores * inverse, axis=0)
        return -float(np.take_along_axis(likelihood, truth[np.newaxis], axis=0).mean())

    found = minimize_scalar(
        loss, bounds=np.log(_RANGE), method="bounded", options={"xatol": 1e-5, "maxiter": 100}
    )
    return Temperature(float(np.exp(found.x)), loss(0.0), float(found.fun), scores.shape[1])


def _require_classes(truth: npt.NDArray[Any], channels: int) -> None:
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= channels:
        raise InputError(
            f"targets are the classes 0 to {channels - 1} as integers, got {truth.dtype} from "
            f"{truth.min()} to {truth.max()}: leave out voxels that are not to count."
        )
