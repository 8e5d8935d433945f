"""Tensors whose channels lie side by side, and threads that share the loops over them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Rows:
    """Where the values of a tensor lie, channels side by side."""

    values: Array
    sample: int
    voxel: int


def rows_of(tensor: Tensor) -> tuple[Tensor, Rows]:
    """Return a tensor, copied if its channels do not lie side by side, and where its values lie."""
    sides, strides = tensor.shape[2:], tensor.stride()[2:]
    voxel = strides[-1]
    expected = [voxel * math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
    if tensor.stride(1) != 1 or list(strides) != expected or voxel < tensor.shape[1]:
        # Strides of axes of one voxel say nothing; a new tensor has those that are expected.
        ordered = torch.empty_like(tensor, memory_format=CHANNELS_LAST[tensor.ndim])
        return rows_of(ordered.copy_(tensor))
    extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    flat = tensor.as_strided((extent,), (1,))
    return tensor, Rows(flat.numpy(), tensor.stride(0), voxel)


def in_threads(loop: Callable[[int, int], object], units: int, most: int) -> None:
    """Call a loop with the first of its units of work and the end of them, in several threads.

    Args:
        loop: Gives the lock of the interpreter away while it runs.
        units: Of work.
        most: Threads that are worth their start; torch has a limit, too.
    """
    threads = max(1, min(torch.get_num_threads(), units, most))
    ends = [units * n // threads for n in range(threads + 1)]
    others = [_pool(threads - 1).submit(loop, *ends[n : n + 2]) for n in range(1, threads)]
    loop(*ends[:2])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="layers")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
