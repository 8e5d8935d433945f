"""Long work as generators, so that a window can stay alive between their steps.

Each step takes some hundredths of a second at most. It gives a `Progress`, or None where there is
nothing new; the result is what the generator returns. Closing the generator cancels the work, and
whatever it began is ended and removed on the way out.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Callable, Optional, TypeVar

from .errors import VolSegError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """What is being done, and how far it is.

    Attributes:
        stage: in words.
        done: of `total` parts.
        total: None where it is not known.
    """

    stage: str
    done: int = 0
    total: int | None = None

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, or None where it is not known."""
        return min(1.0, self.done / self.total) if self.total else None


SECONDS_A_STEP = 0.02
"""How long a step waits: only meanwhile do other threads run in Slicer, whose main thread does not
give Python up while it waits for the user."""

Steps = Generator[Optional[Progress], None, Result]


def in_background(call: Callable[..., Result], *arguments: Any) -> Steps[Result]:
    """Call a function in a thread, and step until it has returned."""
    outcome: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(call(*arguments))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        try:
            return outcome.result(timeout=SECONDS_A_STEP)
        except concurrent.futures.TimeoutError:
            if outcome.done():  # the call itself ran into a time limit
                return outcome.result()
        yield None


class Driver:
    """Takes the steps of one piece of work at a time, on the beat of a timer.

    Args:
        progress: called with each `Progress`.
        ended: called after the last step, however it came about.
    """

    def __init__(
        self, progress: Callable[[Progress], None], ended: Callable[[], None] = lambda: None
    ) -> None:
        self._progress = progress
        self._ended = ended
        self._steps: Steps[Any] | None = None
        self._done: Callable[[Any], None]
        self._failed: Callable[[str], None]

    @property
    def running(self) -> bool:
        """Whether there is work that has not ended."""
        return self._steps is not None

    def start(
        self,
        steps: Steps[Any],
        done: Callable[[Any], None],
        failed: Callable[[str], None],
    ) -> None:
        """Begin work; what was running is cancelled.

        Args:
            steps: the work.
            done: called with its result.
            failed: called with a sentence instead.
        """
        self.cancel()
        self._steps, self._done, self._failed = steps, done, failed

    def step(self) -> None:
        """Take steps until nothing is new or the work has ended."""
        while self._steps is not None:
            try:
                progress = next(self._steps)
            except StopIteration as end:
                self._end()
                self._done(end.value)
            except VolSegError as error:
                self._end()
                self._failed(str(error))
            except BaseException:
                self._end()
                raise
            else:
                if progress is None:
                    return
                self._progress(progress)

    def cancel(self) -> None:
        """End the work where it is; nothing of it stays."""
        if self._steps is not None:
            self._steps.close()
            self._end()

    def _end(self) -> None:
        self._steps = None
        self._ended()
