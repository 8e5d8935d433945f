"""When a training is validated, and when it ends because it no longer gets better."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from volseg.training.history import TrainingHistory

_log = logging.getLogger(__name__)


class ValidateNowAndAtTheEnd(ValidationHandler):
    """MONAI's `ValidationHandler`, every so many epochs and also after the last one."""

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""

        def is_due(engine: Engine, epoch: int) -> bool:
            is_last = engine.should_terminate or epoch == engine.state.max_epochs
            return bool(is_last or epoch % self.interval == 0)

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)


class StopWithoutProgress:
    """MONAI handler: ends the training when validations no longer get better.

    It follows from the history alone, so there is no state to keep.

    Args:
        history: Where the validations are; attach it before.
        patience: How many validations in a row may be no better than the best one; None for any
            number.
    """

    def __init__(self, history: TrainingHistory, patience: int | None) -> None:
        self._history = history
        self._patience = patience

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self._patience is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        assert self._patience is not None
        best = self._history.best
        if best is None:
            return
        since = sum(epoch > best[0] for epoch, _ in self._history.validations)
        if since >= self._patience and engine.state.epoch < engine.state.max_epochs:
            _log.info(
                "stopped early: none of the last %d validations was better than that of epoch %d",
                since,
                best[0],
            )
            engine.terminate()
