"""Training loops run in turns, each in a process of its own, as trainings are."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ignite.engine import Events
from monai.engines import SupervisedTrainer

from benchmarks.timing import use_threads

Build = Callable[..., tuple[SupervisedTrainer, float]]


class Turns(Protocol):
    """A loop that is run in turns with others, and what a step of each turn took."""

    seconds: list[float]
    waited: list[float]
    processor: list[float]

    def run(self) -> None:
        """Take the steps of a turn."""


@dataclass
class Loop:
    """A trainer that is run one epoch at a time, and what its steps and waits took.

    Processor seconds are those of the process that trains, in its steps alone: other programs on
    the machine hardly change them. The wait for the first batch of an epoch is left out: it is the
    start of an epoch, once in as many steps as there are.
    """

    trainer: SupervisedTrainer

    def __post_init__(self) -> None:
        for event in (Events.GET_BATCH_STARTED, Events.ITERATION_COMPLETED):
            self.trainer.add_event_handler(event, self._mark)
        self.trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        self.trainer.add_event_handler(Events.ITERATION_STARTED, self._begin_step)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)

    def run(self) -> tuple[float, float, float]:
        """Train one epoch more; return seconds a step, share of waiting, processor seconds."""
        self._began = self._wait = self._computed = 0.0
        self.trainer.state.max_epochs = self.trainer.state.epoch + 1
        self.trainer.run()
        steps = self.trainer.state.epoch_length or 1
        seconds = self._since - self._began
        return seconds / steps, self._wait / seconds, self._computed / steps

    def _begin_step(self) -> None:
        self._step = time.process_time()

    def _end_step(self) -> None:
        self._computed += time.process_time() - self._step

    def _mark(self) -> None:
        self._since = time.perf_counter()

    def _got(self) -> None:
        now = time.perf_counter()
        if self._began:
            self._wait += now - self._since
        else:
            self._began = now


@dataclass
class LoopOfOwn:
    """A `Loop` in another process.

    Attributes:
        connection: To that process.
        first_loss: The loss of a batch before anything was trained.
    """

    connection: Connection
    first_loss: float
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Take the steps of a turn.

        Raises:
            EOFError: The process ended; it said why.
        """
        self.connection.send(True)
        taken = self.connection.recv()
        for kept, value in zip((self.seconds, self.waited, self.processor), taken, strict=True):
            kept.append(value)


@contextmanager
def loop_of_own(build: Build, *arguments: Any, threads: int) -> Iterator[LoopOfOwn]:
    """Start a process that builds a trainer and waits for its turns; it ends with the block.

    Args:
        build: Returns the trainer and its first loss; a function of a module.
        arguments: Of it.
        threads: Of torch.

    Raises:
        EOFError: The process ended before; it said why.
    """
    context = multiprocessing.get_context("spawn")  # nothing of this process's heap
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_turns, args=(theirs, build, arguments, threads))
    process.start()
    theirs.close()
    try:
        yield LoopOfOwn(ours, ours.recv())
    finally:
        ours.close()  # which the process takes as the end
        process.join()


def _take_turns(
    connection: Connection, build: Build, arguments: tuple[Any, ...], threads: int
) -> None:
    use_threads(threads)
    trainer, first_loss = build(*arguments)
    loop = Loop(trainer)
    connection.send(first_loss)
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send(loop.run())
