"""A running mean of a network's weights whose state a checkpoint holds whole."""

from __future__ import annotations

from typing import Any

from ignite.handlers import EMAHandler
from ignite.handlers.param_scheduler import BaseParamScheduler


class AveragedWeights(EMAHandler):
    """ignite's `EMAHandler` with a state dictionary: the mean, and how far its warm-up has come.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the options
    are those of `ignite.handlers.EMAHandler`.
    """

    # Which ignite sets only where there is a warm-up.
    momentum_scheduler: BaseParamScheduler | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        scheduler = self.momentum_scheduler
        return {
            "network": self.ema_model.state_dict(),
            "updates": 0 if scheduler is None else scheduler.event_index,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; call it after `attach`."""
        self.ema_model.load_state_dict(state_dict["network"])
        if self.momentum_scheduler is not None:
            self.momentum_scheduler.event_index = int(state_dict["updates"])
