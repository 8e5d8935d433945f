"""Several requests to a server at once, their answers in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def answers_in_order(requests: Iterable[Callable[[], T]], *, at_once: int) -> Iterator[Future[T]]:
    """Yield the answers to requests in their order, while the next ones are on their way.

    The first is made alone: a server that fails is not asked several times for it. After a request
    that failed no other is made, but what is on its way is waited for and yielded, too.

    Args:
        requests: called in other threads.
        at_once: how many are on their way at most, and answers held.

    Yields:
        Answers that are there, or what a request raised in the place of one.
    """
    remaining = iter(requests)
    waiting: deque[Future[T]] = deque()
    allowed = 1
    while True:
        while len(waiting) < allowed and (request := next(remaining, None)) is not None:
            waiting.append(_started(request))
        if not waiting:
            return
        answer = waiting.popleft()
        if answer.exception() is not None:
            remaining = iter(())
        allowed = at_once
        yield answer


def _started(request: Callable[[], T]) -> Future[T]:
    """Make a request in a thread that does not keep the process from ending."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(request())
        except BaseException as error:  # raised again where it is looked at
            answer.set_exception(error)

    threading.Thread(target=run, name="request", daemon=True).start()
    return answer
