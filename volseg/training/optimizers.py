"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from volseg.errors import UnknownNameError

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


def build_optimizer(
    name: str,
    weights: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> Optimizer:
    """Return an optimizer that takes its step in one pass over the weights.

    Args:
        name: In `OPTIMIZERS`.
        weights: What is optimised.
        learning_rate: The highest of the schedule.
        weight_decay: As torch's own; decoupled from the rest of the step in ``adamw``.
        momentum: Of ``sgd``, in the way of Nesterov; the others have their own.

    Raises:
        UnknownNameError: There is no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    options: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        options |= {"momentum": momentum, "nesterov": momentum > 0}
    return OPTIMIZERS[name](list(weights), **options)
