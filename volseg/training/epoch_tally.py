"""What the steps of one epoch add up to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from volseg.processes import is_idle


class EpochTally:
    """Sums of the steps of an epoch: loss, patches, and how long the steps waited for data."""

    def __init__(self) -> None:
        self._clear()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; before whatever reads it."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin_to_wait)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._end_to_wait)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)

    @property
    def last_loss(self) -> float:
        """Of the last step."""
        return float(self._last_loss)

    @property
    def patches_per_second(self) -> float:
        """Of this process, validation left out."""
        return self._patches / max(self._ended - self._began, 1e-9)

    @property
    def waiting(self) -> float:
        """The part of the time that the steps waited for data."""
        return self._waited / max(self._ended - self._began, 1e-9)

    def mean_loss(self) -> float:
        """Return the mean over the patches of the epoch, in all processes; each has to ask."""
        loss, patches = (idist.all_reduce(value) for value in (float(self._loss), self._patches))
        return float(loss) / max(float(patches), 1.0)

    def _clear(self) -> None:
        self._began = self._ended = time.monotonic()
        self._waits_since = 0.0
        self._waited = 0.0
        self._patches = 0
        self._loss: torch.Tensor | float = 0.0
        self._last_loss: torch.Tensor | float = 0.0

    def _begin_to_wait(self) -> None:
        self._waits_since = time.monotonic()

    def _end_to_wait(self) -> None:
        self._waited += time.monotonic() - self._waits_since

    def _end_step(self, engine: Engine) -> None:
        output = engine.state.output
        first = output[0] if isinstance(output, Sequence) else output
        patches = 0 if is_idle() else _length(engine.state.batch)
        # Kept on its device: reading it would make that wait.
        loss: torch.Tensor = first["loss"].detach()
        self._last_loss = loss
        self._loss = self._loss + patches * loss.double()
        self._patches += patches
        self._ended = time.monotonic()


def _length(batch: Any) -> int:
    """Return the number of patches of a batch."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)
