"""How far a training is, by its steps or, where its time is limited, by its seconds."""

from __future__ import annotations

import time
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from volseg.processes import process_count

_UNBOUNDED = 2**31  # epochs, where seconds decide


class TrainingClock:
    """MONAI handler: counts the seconds of a training, stops or not, and ends it in time.

    All that happens between the start and the end of the training counts, validations and
    checkpoints too, but not the preparation of the data before. Where seconds are given, the number
    of epochs means nothing; the last epoch is cut off so that the validation and the checkpoint at
    its end still fit, as far as earlier ones of the run have shown what they take.

    Args:
        seconds: How long a training may take; without it its epochs decide.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._steps = 0
        self._before = 0.0
        self._since: float | None = None
        self._between_epochs = 0.0
        self._step = 0.0
        self._last_step = 0.0
        self._is_over = False
        self._told: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; before whatever asks how far it is."""
        engine.add_event_handler(Events.STARTED, self._start)
        if self.seconds is not None:
            engine.add_event_handler(Events.ITERATION_STARTED, self._begin_step)
            engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    @property
    def is_over(self) -> bool:
        """Whether the seconds are used up; never where epochs decide."""
        return self._is_over

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those before interruptions included."""
        return self._before + (0.0 if self._since is None else time.monotonic() - self._since)

    @property
    def elapsed_before(self) -> float:
        """Seconds of training before this start, up to the checkpoint that it goes on from."""
        return self._before

    def part_done(self, steps: int) -> float:
        """Return the part of the training that is done after a number of steps, from 0 to 1."""
        if self.seconds is not None:
            available = max(self.seconds - self._between_epochs, 1e-9)
            elapsed = self.elapsed if self._told is None else self._told
            return min(elapsed / available, 1.0)
        return min(steps / self._steps, 1.0) if self._steps else 0.0

    def seconds_left(self, steps: int) -> float | None:
        """Return the seconds to the end after a number of steps; None if there is no telling."""
        if self.seconds is not None:
            return max(self.seconds - self.elapsed, 0.0)
        done = self.part_done(steps)
        return self.elapsed * (1 - done) / done if done else None

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, what a validation and a checkpoint take, if it is over."""
        return {
            "seconds": self.elapsed,
            "between_epochs": self._between_epochs,
            "is_over": self._is_over,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._before = float(state_dict["seconds"])
        self._between_epochs = float(state_dict["between_epochs"])
        self._is_over = bool(state_dict.get("is_over", False))  # earlier versions did not say
        if self._since is not None:
            self._since = time.monotonic()

    def _start(self, engine: Engine) -> None:
        self._since = time.monotonic()
        self._steps = engine.state.epoch_length * engine.state.max_epochs
        if self.seconds is not None:
            engine.state.max_epochs = _UNBOUNDED

    def _begin_epoch(self) -> None:
        now = time.monotonic()
        if self._last_step:
            passed = _of_first_process(now - self._last_step)
            self._between_epochs = max(self._between_epochs, passed)
        self._last_step = now

    def _begin_step(self) -> None:
        """Let all processes do the step as of the same time."""
        if process_count() > 1:
            self._told = _of_first_process(self.elapsed)

    def _end_step(self, engine: Engine) -> None:
        before, self._last_step = self._last_step, time.monotonic()
        self._step = self._last_step - before
        if not self._has_room_for(self._step + self._between_epochs):
            self._is_over = True
            engine.terminate_epoch()

    def _end_epoch(self, engine: Engine) -> None:
        # One more epoch has at least one step, and a validation after it as after this one.
        if not self._has_room_for(self._step + 2 * self._between_epochs):
            self._is_over = True
        if self._is_over:
            engine.terminate()

    def _has_room_for(self, seconds: float) -> bool:
        assert self.seconds is not None
        return _of_first_process(self.elapsed + seconds) <= self.seconds


def _of_first_process(seconds: float) -> float:
    """Return what the first process has measured: all have to do the same."""
    return seconds if process_count() == 1 else float(idist.broadcast(seconds, src=0))
