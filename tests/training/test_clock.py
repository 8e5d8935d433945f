"""A training ends within its seconds, whatever is interrupted."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from volseg.training import TrainingClock


class Time:
    """A clock that only what is done moves on."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("volseg.training.clock.time.monotonic", lambda: self.now)

    def pass_by(self, seconds) -> None:
        self.now += seconds


def engine_of(time, clock, *, step, validation):
    engine = Engine(lambda engine, batch: time.pass_by(step))
    clock.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: time.pass_by(validation))
    return engine


def test_the_last_epoch_is_cut_off_so_that_its_validation_fits(monkeypatch):
    time = Time(monkeypatch)
    clock = TrainingClock(seconds=60)
    engine = engine_of(time, clock, step=1.0, validation=5.0)
    parts = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: parts.append(clock.part_done(engine.state.iteration))
    )
    engine.run([0] * 10, max_epochs=1)  # which seconds overrule
    assert 60 - 1 <= clock.elapsed <= 60
    assert engine.state.epoch == 4
    assert parts == sorted(parts)
    assert parts[-1] >= 0.98


def test_what_went_by_before_an_interruption_counts(monkeypatch):
    time = Time(monkeypatch)
    clock = TrainingClock(seconds=60)
    clock.load_state_dict({"seconds": 40.0, "between_epochs": 5.0})
    engine = engine_of(time, clock, step=1.0, validation=5.0)
    time.pass_by(1000.0)
    engine.run([0] * 10)
    assert clock.elapsed == 40 + 10 + 5  # one more epoch would need a step and another validation


def test_steps_decide_without_seconds(monkeypatch):
    time = Time(monkeypatch)
    clock = TrainingClock()
    engine = engine_of(time, clock, step=2.0, validation=0.0)
    assert clock.seconds_left(0) is None
    left = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: left.append(clock.seconds_left(engine.state.iteration))
    )
    engine.run([0] * 2, max_epochs=2)
    assert left == [6.0, 4.0, 2.0, 0.0]
    assert clock.part_done(3) == 0.75
    assert clock.state_dict()["seconds"] == pytest.approx(8.0)


def test_seconds_are_over_only_where_they_ended_the_training(monkeypatch):
    time = Time(monkeypatch)
    clock = TrainingClock(seconds=60)
    engine = engine_of(time, clock, step=1.0, validation=5.0)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), engine.terminate)  # as patience does
    engine.run([0] * 10)
    assert not clock.is_over
    engine.run([0] * 10)
    assert clock.is_over
    again = TrainingClock(seconds=60)
    again.load_state_dict(clock.state_dict())
    assert again.is_over
