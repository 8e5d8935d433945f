"""Several requests at once: answers in order, the first alone, errors in their turn."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from volseg.pacs.in_flight import answers_in_order


def test_answers_come_in_order_and_some_requests_at_once():
    inside, most, lock = set(), [], threading.Lock()

    def request(number):
        with lock:
            inside.add(number)
            most.append(len(inside))
        time.sleep(0.05 if number % 3 else 0.1)
        with lock:
            inside.remove(number)
        return number

    requests = (partial(request, number) for number in range(12))
    answers = [answer.result() for answer in answers_in_order(requests, at_once=3)]
    assert answers == list(range(12))
    assert most[0] == 1
    assert max(most) == 3


def test_a_server_that_fails_is_asked_once():
    asked = []

    def request(number):
        asked.append(number)
        raise OSError("down")

    (answer,) = answers_in_order((partial(request, number) for number in range(9)), at_once=4)
    with pytest.raises(OSError, match="down"):
        answer.result()
    assert asked == [0]


def test_what_is_on_its_way_after_a_failure_is_kept_and_nothing_else_asked_for():
    asked = []

    def request(number):
        asked.append(number)
        if number == 1:
            raise ValueError("one")
        return number

    answers = list(answers_in_order((partial(request, number) for number in range(9)), at_once=4))
    assert [answer.exception() is None for answer in answers] == [True, False, True, True, True]
    assert [answers[index].result() for index in (0, 2, 3, 4)] == [0, 2, 3, 4]
    assert sorted(asked) == [0, 1, 2, 3, 4]
