"""Where a training is, as it is told to people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingState:
    """Where a run is; given to the progress callable after every step and every epoch.

    Attributes:
        epoch: From 1.
        epochs: How many there will be; None where seconds decide.
        step: Of the epoch, from 1.
        steps: Of an epoch.
        loss: Of the step; of an epoch that has ended the mean.
        key_metric: Of the latest validation; None before the first.
        part_done: Of the run, 0 to 1.
        seconds_left: To the end of the run; None if there is no telling.
        patches_per_second: Of the epoch so far.
        waiting: The part of the epoch's time that went by waiting for data, 0 to 1.
        epoch_has_ended: Whether this tells of an epoch rather than of a step.
        metrics: Of the validation after an epoch that has ended; empty where there was none.
    """

    epoch: int
    epochs: int | None
    step: int
    steps: int
    loss: float
    key_metric: float | None
    part_done: float
    seconds_left: float | None
    patches_per_second: float
    waiting: float
    epoch_has_ended: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)

    def describe(self) -> str:
        """Return it as one line."""
        of = "" if self.epochs is None else f"/{self.epochs}"
        words = [f"epoch {self.epoch}{of}", f"loss {self.loss:.4f}"]
        words += [f"{name} {value:.4f}" for name, value in self.metrics.items()]
        if self.key_metric is not None and not self.epoch_has_ended:
            words.append(f"held-out {self.key_metric:.4f}")
        words += [f"{self.patches_per_second:.3g} patches/s", f"{self.waiting:.0%} waiting"]
        if self.seconds_left is not None:
            words.append(f"{duration(self.seconds_left)} left")
        return ", ".join(words)


def duration(seconds: float) -> str:
    """Return a time as it is spoken: 40 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
