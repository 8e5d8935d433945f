"""Trying again: a few times, a little later each time, and said."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from volseg.errors import ServerError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often a request that may succeed later is made, and how long to wait between.

    Attributes:
        attempts: how often at most without getting on, 1 for once.
        pause: seconds before the second attempt; twice as long before each further one.
    """

    attempts: int = 3
    pause: float = 1.0

    def trying(self, attempt: Callable[[], T], *, progressed: Callable[[], int] | None = None) -> T:
        """Return what `attempt` returns, once it does.

        Args:
            attempt: what to do; called again after a `ServerError` that may pass.
            progressed: a number that grows when an attempt that failed got on. It counts as the
                first one then: a long transfer is not given up for a connection that breaks off
                now and then.

        Raises:
            ServerError: of the last attempt.
        """
        failures = 0
        reached = progressed() if progressed is not None else 0
        while True:
            try:
                return attempt()
            except ServerError as error:
                if not error.passing:
                    raise
                now = progressed() if progressed is not None else 0
                failures = 1 if now > reached else failures + 1
                reached = now
                if failures >= self.attempts:
                    raise
                wait = self.pause * 2 ** (failures - 1)
                logger.warning(
                    "%s Trying again in %g s (%d of %d).",
                    error,
                    wait,
                    failures + 1,
                    self.attempts,
                )
                time.sleep(wait)
