"""Work in steps, as a timer drives it."""

from __future__ import annotations

import threading
import time

import pytest
from in_slicer import result_of
from VolSegLib.errors import VolSegError
from VolSegLib.steps import Driver, Progress, in_background


def test_a_call_in_the_background_gives_its_result_or_its_error():
    assert result_of(in_background(pow, 2, 10)) == 1024

    def fails() -> None:
        raise VolSegError("a sentence.")

    with pytest.raises(VolSegError, match=r"a sentence\."):
        result_of(in_background(fails))

    def out_of_time() -> None:
        raise TimeoutError("the call's own")

    with pytest.raises(TimeoutError, match="the call's own"):
        result_of(in_background(out_of_time))


def test_no_step_waits_for_a_call():
    released = threading.Event()
    steps = in_background(released.wait, 30)
    started = time.monotonic()
    assert [next(steps) for _ in range(5)] == [None] * 5
    assert time.monotonic() - started < 10
    released.set()
    assert result_of(steps) is True


class Heard:
    """What a driver told."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.results: list[object] = []
        self.sentences: list[str] = []
        self.ends = 0
        self.driver = Driver(self.progress.append, self._ended)

    def _ended(self) -> None:
        self.ends += 1

    def start(self, steps) -> None:
        self.driver.start(steps, self.results.append, self.sentences.append)


def counting(tidied: list[str], end: Exception | None = None):
    try:
        for done in range(3):
            yield Progress("counting", done, 3)
            yield None
        if end is not None:
            raise end
        return "counted"
    finally:
        tidied.append("tidy")


def test_a_driver_tells_progress_and_the_result():
    heard, tidied = Heard(), []
    heard.start(counting(tidied))
    beats = 0
    while heard.driver.running:
        heard.driver.step()
        beats += 1
    assert beats == 4
    assert [progress.fraction for progress in heard.progress] == [0, 1 / 3, 2 / 3]
    assert (heard.results, heard.sentences, heard.ends) == (["counted"], [], 1)
    heard.driver.step()
    assert heard.ends == 1


def test_a_driver_tells_sentences_and_raises_faults():
    heard, tidied = Heard(), []
    heard.start(counting(tidied, VolSegError("too bad.")))
    while heard.driver.running:
        heard.driver.step()
    assert (heard.results, heard.sentences, tidied) == ([], ["too bad."], ["tidy"])
    heard.start(counting(tidied, ZeroDivisionError()))
    beats = iter(heard.driver.step, "never")
    with pytest.raises(ZeroDivisionError):
        list(beats)
    assert not heard.driver.running


def test_cancelled_work_tidies_up_and_tells_nothing_more():
    heard, tidied = Heard(), []
    heard.start(counting(tidied))
    heard.driver.step()
    heard.driver.cancel()
    assert (heard.driver.running, tidied, heard.ends) == (False, ["tidy"], 1)
    heard.driver.step()
    assert len(heard.progress) == 1
    assert (heard.results, heard.sentences) == ([], [])


def test_what_follows_may_be_started_when_something_is_done():
    heard = Heard()
    done: list[object] = []

    def then(result: object) -> None:
        done.append(result)
        if len(done) == 1:
            heard.driver.start(counting([]), then, heard.sentences.append)

    heard.driver.start(counting([]), then, heard.sentences.append)
    while heard.driver.running:
        heard.driver.step()
    assert done == ["counted", "counted"]
