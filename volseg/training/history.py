"""What a training has done, epoch by epoch: told as it goes, and kept as a table."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.optim import Optimizer

from volseg.atomic import write_text
from volseg.training.clock import TrainingClock
from volseg.training.epoch_tally import EpochTally
from volseg.training.progress import TrainingState

_log = logging.getLogger(__name__)

#: What every row has; all else are metrics of a validation.
COLUMNS = ("epoch", "seconds", "learning_rate", "loss", "patches_per_second", "waiting")


class TrainingHistory:
    """MONAI handler: tells of every epoch in a line of the log, and keeps all of them in a table.

    ``history.csv`` has a row for each epoch, as `rows` has: ``epoch``, ``seconds`` since the start,
    ``learning_rate``, mean ``loss``, ``patches_per_second``, ``waiting`` (the part of the time that
    steps waited for data), and the metrics of the validation, where there was one.

    Args:
        folder: Where the table goes.
        clock: Says how far the training is.
        optimizer: Whose learning rate is written down.
        validator: Whose metrics are. Attach the history after what runs it.
    """

    TABLE = "history.csv"

    def __init__(
        self, folder: str | Path, clock: TrainingClock, optimizer: Optimizer, validator: Engine
    ) -> None:
        self.folder = Path(folder)
        self.rows: list[dict[str, float]] = []
        self.key_metric = ""
        self._clock = clock
        self._optimizer = optimizer
        self._validator = validator
        self._tally = EpochTally()
        self._metrics: dict[str, float] = {}
        self._listeners: list[Callable[[TrainingState], None]] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        self._tally.attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget_metrics)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        self._validator.add_event_handler(Events.COMPLETED, self._take_metrics)

    def listen(self, listener: Callable[[TrainingState], None]) -> None:
        """Call something after every step and every epoch."""
        self._listeners.append(listener)

    @property
    def validations(self) -> list[tuple[int, float]]:
        """Epoch and key metric of every validation; minus infinity for what is no number."""
        return [
            (int(row["epoch"]), value if math.isfinite(value) else -math.inf)
            for row in self.rows
            if (value := row.get(self.key_metric)) is not None
        ]

    @property
    def best(self) -> tuple[int, float] | None:
        """Epoch and key metric of the best validation, the first of equals; None before any."""
        return max(self.validations, key=lambda one: one[1], default=None)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": self.rows, "key_metric": self.key_metric}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after them."""
        self.rows = [dict(row) for row in state_dict["rows"]]
        self.key_metric = str(state_dict["key_metric"])

    def _forget_metrics(self) -> None:
        self._metrics = {}

    def _take_metrics(self, validator: Engine) -> None:
        """Take over what has one value."""
        self.key_metric = str(validator.state.key_metric_name)
        found = {
            name: torch.as_tensor(one, dtype=torch.float64)
            for name, one in validator.state.metrics.items()
        }
        self._metrics = {name: float(one) for name, one in found.items() if one.numel() == 1}

    def _end_step(self, engine: Engine) -> None:
        if self._listeners:
            state = self._state(engine, loss=self._tally.last_loss)
            for listener in self._listeners:
                listener(state)

    def _end_epoch(self, engine: Engine) -> None:
        loss = self._tally.mean_loss()
        self.rows.append(
            {
                "epoch": engine.state.epoch,
                "seconds": round(self._clock.elapsed, 3),
                "learning_rate": float(self._optimizer.param_groups[0]["lr"]),
                "loss": loss,
                "patches_per_second": round(self._tally.patches_per_second, 4),
                "waiting": round(self._tally.waiting, 4),
                **self._metrics,
            }
        )
        if idist.get_rank() != 0:
            return
        write_text(self.folder / self.TABLE, _as_csv(self.rows), flush=False)
        state = self._state(engine, loss=loss, epoch_has_ended=True, metrics=self._metrics)
        _log.info(state.describe())
        for listener in self._listeners:
            listener(state)

    def _state(self, engine: Engine, *, loss: float, **of_an_epoch: Any) -> TrainingState:
        steps, done = engine.state.epoch_length, engine.state.iteration
        validations = self.validations
        return TrainingState(
            epoch=engine.state.epoch,
            epochs=engine.state.max_epochs if self._clock.seconds is None else None,
            step=done - (engine.state.epoch - 1) * steps,
            steps=steps,
            loss=loss,
            key_metric=validations[-1][1] if validations else None,
            part_done=self._clock.part_done(done),
            seconds_left=self._clock.seconds_left(done),
            patches_per_second=self._tally.patches_per_second,
            waiting=self._tally.waiting,
            **of_an_epoch,
        )


class MetricOfEachClass:
    """MONAI handler: makes one metric of each class of one that has a value for each.

    Attach it to a validator before what writes its metrics.

    Args:
        metric: Name of the metric, which is then gone.
        classes: Their names, in order.
        prefix: What comes before them in the names of the metrics.
    """

    def __init__(self, metric: str, classes: Sequence[str], *, prefix: str = "dice_") -> None:
        self._metric = metric
        self._names = [f"{prefix}{name}" for name in classes]

    def attach(self, engine: Engine) -> None:
        """Register with a validator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._split)

    def _split(self, engine: Engine) -> None:
        values = torch.as_tensor(engine.state.metrics.pop(self._metric)).flatten().tolist()
        engine.state.metrics.update(zip(self._names, values, strict=True))


def _as_csv(rows: Sequence[Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
