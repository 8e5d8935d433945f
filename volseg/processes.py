"""What the processes of one training run have in common: sums over all of them.

A run of several processes gives each its share of every batch. What is a mean or a ratio over the
batch, such as a loss or the statistics of batch normalisation, is then made of sums over all
processes; a process without a share of its own (`set_idle`) adds zeros.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed

_idle = False


def process_count() -> int:
    """Return how many processes train together; 1 outside of such a run."""
    return distributed.get_world_size() if _together() else 1


def process_rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if _together() else 0


def set_idle(idle: bool) -> None:
    """Say whether this process has no share of the present batch.

    A batch may hold fewer cases than there are processes. A process that is idle computes with a
    stand-in, as it must call what the others call, and does not count it.
    """
    global _idle  # noqa: PLW0603 - one batch at a time in a process
    _idle = idle


def is_idle() -> bool:
    """Return what `set_idle` said."""
    return _idle


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, with its gradient; itself if there is one.

    All processes must call it, in the same order, with one shape. A process then has the gradient
    of the sum of what all of them computed: where all computed the same loss, the mean of their
    gradients is the gradient of the loss.
    """
    return values if process_count() == 1 else cast(Tensor, _Sum.apply(values))


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of all numbers of the tensors of all processes, as `sum_over_processes`.

    The number of numbers may differ between them.
    """
    if process_count() == 1:
        return values.mean()
    number = values.new_tensor(float(values.numel()))
    sums = sum_over_processes(torch.stack([values.sum(), number]))
    return sums[0] / sums[1]


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Sum(torch.autograd.Function):
    """All-reduce, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.idle = _idle
        total = torch.zeros_like(values) if _idle else values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        if ctx.idle:
            total.zero_()
        return total
