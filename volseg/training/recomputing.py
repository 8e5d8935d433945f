"""Activations inside of a network's levels are computed again on the way back, not kept.

Chen et al., "Training deep nets with sublinear memory cost", 2016 (arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_levels(network: nn.Module) -> int:
    """Make the levels of a network forget their activations in training; return how many.

    A level is a module of several convolutions that the network's forward pass calls. Containers,
    and a module with most of the convolutions of all, are no level: their members are. Gradients
    are the same, and so are random numbers and the statistics of batch normalisation.
    """
    most = _convolutions(network) // 2
    levels = [level for level in _called(network, most) if _convolutions(level) > 1]
    for level in levels:
        kind: Any = type(level)
        level.__class__ = _forgetful(kind)
    return len(levels)


def _called(module: nn.Module, most: int) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, _CONTAINERS) or _convolutions(child) > most:
            yield from _called(child, most)
        else:
            yield child


def _convolutions(module: nn.Module) -> int:
    return sum(type(one).__name__.startswith("Conv") for one in module.modules())


@cache
def _forgetful(kind: Any) -> Any:
    """Return the kind of module that forgets: a class, so that copies compute with their own."""

    def forward(self: nn.Module, *given: Any, **options: Any) -> Any:
        compute = partial(kind.forward, self)
        if not self.training:
            return compute(*given, **options)
        # What is compiled moves statistics on the way forward alone, and takes no such contexts.
        if not torch.compiler.is_compiling():
            options["context_fn"] = partial(_contexts, self)
        # A list of features may be longer by the time that they are computed again.
        inputs = [list(one) if isinstance(one, list) else one for one in given]
        return checkpoint(compute, *inputs, use_reentrant=False, **options)

    return type(kind.__name__, (kind,), {"forward": forward})


_Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]


def _contexts(level: nn.Module) -> _Contexts:
    return nullcontext(), _unmoved_statistics(level)


@contextmanager
def _unmoved_statistics(level: nn.Module) -> Iterator[None]:
    """Compute without moving the running statistics of batch normalisation a second time."""
    layers = [one for one in level.modules() if isinstance(one, _BatchNorm)]
    before = [(one.momentum, one.num_batches_tracked) for one in layers]
    for one in layers:
        one.momentum = 0.0
        if one.num_batches_tracked is not None:
            one.num_batches_tracked = one.num_batches_tracked.clone()
    try:
        yield
    finally:
        for one, (momentum, batches) in zip(layers, before, strict=True):
            one.momentum, one.num_batches_tracked = momentum, batches
