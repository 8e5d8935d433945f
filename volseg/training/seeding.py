"""Random numbers that are the same in a training that was interrupted and in one that was not."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events

from volseg.processes import process_rank


class SeedEveryEpoch:
    """MONAI handler: what is random in an epoch, as dropout is, follows from seed and epoch alone.

    Python's, NumPy's and torch's generators are seeded before the first step of every epoch: its
    batches are already being made then, which draws from them or not as the case may be.

    Args:
        seed: Of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._reseed)

    def _reseed(self, engine: Engine) -> None:
        if (engine.state.iteration - 1) % engine.state.epoch_length == 0:
            # Processes that train together do not drop out the same of what each has.
            own = (process_rank(),) if process_rank() else ()
            sequence = np.random.SeedSequence((self._seed, engine.state.epoch, *own))
            seed = int(sequence.generate_state(1)[0])
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - what MONAI and others draw from
            torch.manual_seed(seed)
