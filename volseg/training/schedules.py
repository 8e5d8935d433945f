"""How the learning rate changes in the course of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ignite.engine import Engine, Events
from torch.optim import Optimizer

from volseg.errors import UnknownNameError
from volseg.training.clock import TrainingClock

_WARM_UP = 0.1  # of the training
_FIRST = 1 / 25  # of the highest rate
_LAST = 1e-4 * _FIRST
_MOMENTA = (0.95, 0.85)


@dataclass(frozen=True)
class Schedule:
    """What a step is taken with, by the part of the training that is done, from 0 to 1.

    Attributes:
        rate: Learning rate, as a part of the highest one.
        momentum: Of SGD, or the first of Adam's decays; as the optimizer has it without.
    """

    rate: Callable[[float], float]
    momentum: Callable[[float], float] | None = None


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def _one_cycle(low: float, high: float, end: float) -> Callable[[float], float]:
    def at(done: float) -> float:
        if done < _WARM_UP:
            return _cosine(low, high, done / _WARM_UP)
        return _cosine(high, end, (done - _WARM_UP) / (1 - _WARM_UP))

    return at


def _warm_cosine(done: float) -> float:
    if done < _WARM_UP:
        return _FIRST + (1 - _FIRST) * done / _WARM_UP
    return _cosine(1.0, 0.0, (done - _WARM_UP) / (1 - _WARM_UP))


SCHEDULES: Mapping[str, Schedule] = {
    # Smith and Topin, "Super-convergence", 2018; as torch.optim.lr_scheduler.OneCycleLR.
    "onecycle": Schedule(
        rate=_one_cycle(_FIRST, 1.0, _LAST),
        momentum=_one_cycle(_MOMENTA[0], _MOMENTA[1], _MOMENTA[0]),
    ),
    # Of DeepLab (Chen and others, 2018) and nnU-Net.
    "poly": Schedule(rate=lambda done: (1 - done) ** 0.9),
    # Loshchilov and Hutter, "SGDR", 2017, without restarts, after a linear warm-up.
    "cosine": Schedule(rate=_warm_cosine),
    "constant": Schedule(rate=lambda _: 1.0),
}


class LearningRate:
    """MONAI handler: sets the learning rate before every step.

    It follows from how far the training is alone, so there is no state to keep.

    Args:
        optimizer: Its learning rates, as they are now, are the highest.
        schedule: A name in `SCHEDULES`.
        clock: Says how far the training is.

    Raises:
        UnknownNameError: There is no such schedule.
    """

    def __init__(self, optimizer: Optimizer, schedule: str, clock: TrainingClock) -> None:
        if schedule not in SCHEDULES:
            raise UnknownNameError("schedule", schedule, SCHEDULES)
        self._schedule = SCHEDULES[schedule]
        self._optimizer = optimizer
        self._highest = [group["lr"] for group in optimizer.param_groups]
        self._clock = clock

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        done = self._clock.part_done(engine.state.iteration - 1)
        for highest, group in zip(self._highest, self._optimizer.param_groups, strict=True):
            group["lr"] = highest * self._schedule.rate(done)
            if self._schedule.momentum is None:
                continue
            momentum = self._schedule.momentum(done)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum
