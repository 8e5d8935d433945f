"""How far ``volseg segment`` is: bars for people, lines of JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from volseg.cli.console import errors, progress_bar
from volseg.errors import VolsegError

if TYPE_CHECKING:
    from rich.progress import Progress

    from volseg.segmenter.streamed import Progress as Advance

_SECONDS_BETWEEN_LINES = 0.1


class ProgressKind(StrEnum):
    """Who progress is for."""

    AUTO = "auto"
    LINES = "lines"
    NONE = "none"


class CaseProgress(Protocol):
    """What is told while cases are run."""

    def expect(self, cases: int) -> None:
        """Say how many cases there are."""

    def stage(self, case: str, name: str) -> AbstractContextManager[Advance]:
        """Say what is done with a case while the block runs, and give what says how far."""

    def ended(self, row: Mapping[str, Any]) -> None:
        """Say how a case ended: ``status``, ``error`` if it failed, ``flags`` if some stand out."""


@contextmanager
def case_progress(kind: ProgressKind) -> Iterator[CaseProgress]:
    """Give what tells of cases on standard error while the block runs."""
    if kind is ProgressKind.LINES:
        lines = _Lines()
        lines.write(case=None, stage="loading", done=0, total=None)
        try:
            yield lines
        except VolsegError as error:
            lines.write(case=None, stage="failed", error=str(error))
            raise
        return
    with progress_bar(shown=kind is ProgressKind.AUTO) as bar:
        yield _Bars(bar)


class _Bars:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._cases = bar.add_task("loading", total=None)

    def expect(self, cases: int) -> None:
        self._bar.update(self._cases, description="cases", total=cases)

    @contextmanager
    def stage(self, case: str, name: str) -> Iterator[Advance]:
        task = self._bar.add_task(f"{name} {case}", total=None)
        try:
            yield lambda done, total: self._bar.update(task, completed=done, total=total)
        finally:
            self._bar.remove_task(task)

    def ended(self, row: Mapping[str, Any]) -> None:
        case = row["case"]
        if row["status"] == "failed":
            errors.print(f"{case}: {row['error']}", soft_wrap=True, markup=False)
        for flag in row.get("flags", ()):
            if flag["severity"] != "note":
                text = f"{case}: {flag['severity']}: {flag['sentence']}"
                errors.print(text, soft_wrap=True, markup=False)
        self._bar.advance(self._cases)


class _Lines:
    """One JSON object a line, each with ``case`` and ``stage``, flushed at once."""

    def expect(self, cases: int) -> None:
        self.write(case=None, stage="loading", done=0, total=cases)

    @contextmanager
    def stage(self, case: str, name: str) -> Iterator[Advance]:
        self.write(case=case, stage=name, done=0, total=None)
        last = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            if done == total or time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                self.write(case=case, stage=name, done=done, total=total)
                last = time.monotonic()

        yield advance

    def ended(self, row: Mapping[str, Any]) -> None:
        self.write(stage=row["status"], **row)

    def write(self, **line: Any) -> None:
        try:
            print(json.dumps(line, allow_nan=False), file=sys.stderr, flush=True)  # noqa: T201
        except OSError:  # whoever started this is gone, and nobody waits for the result
            raise SystemExit(1) from None
