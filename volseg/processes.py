"""What the processes of one training run have in common: sums over all of them, and shared work.

A run of several processes gives each its share of every batch. What is a mean or a ratio over the
batch, such as a loss or the statistics of batch normalisation, is then made of sums over all
processes; a process without a share of its own (`set_idle`) adds zeros.

What is done to every case before the first step is shared out, too (`shares_of_work`), and the
processes wait for each other however long it takes (`Meeting`).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

T = TypeVar("T")

# For what is done with a whole data set: longer than any takes.
_LONG_PATIENCE = timedelta(days=7)

_idle = False


def process_count() -> int:
    """Return how many processes train together; 1 outside of such a run."""
    return distributed.get_world_size() if _together() else 1


def process_rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if _together() else 0


def launched_count() -> int:
    """Return how many processes ``torchrun`` started, whether they have met or not; else 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def shares_of_work() -> list[slice]:
    """Return which items this process does of work that leaves something on the disk for each.

    All processes share the items. Where they are on several machines, those of each then share all
    items once more, as a disk may be of one machine: what is there already is to be left. Between
    the shares, and after the last, they have to meet.
    """
    of_all = slice(process_rank(), None, process_count())
    of_machine = slice(
        int(os.environ.get("LOCAL_RANK", of_all.start)),
        None,
        int(os.environ.get("LOCAL_WORLD_SIZE", of_all.step)),
    )
    return [of_all] if of_machine == of_all else [of_all, of_machine]


class Meeting:
    """Where all processes wait for each other, however long one of them takes.

    All of them make it, at about the same time: any other wait of theirs ends after some minutes.
    """

    def __init__(self) -> None:
        self._group: Any = None
        if process_count() > 1:
            # Gloo notices at once when a process ends, whatever else they talk through.
            self._group = distributed.new_group(backend="gloo", timeout=_LONG_PATIENCE)

    def gather(self, own: T) -> list[T]:
        """Return what each process has come with, in their order, when all have come."""
        if self._group is None:
            return [own]
        found: list[Any] = [None] * process_count()
        distributed.all_gather_object(found, own, group=self._group)
        return found


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
