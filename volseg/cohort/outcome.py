"""What became of a case: one small file, written when its results are there or cannot be had."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from volseg.atomic import write_text, writing_to
from volseg.cohort.case import CohortCase
from volseg.cohort.content import stamp_of
from volseg.cohort.folder import CohortFolder
from volseg.errors import InputError

State = Literal["done", "failed"]
STATES: tuple[State, State] = ("done", "failed")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: Its name.
        state: ``done`` or ``failed``.
        settings: Key of the settings it was done with.
        stamp: Of the files of its images, see `stamp_of`; empty if they could not be looked at.
        digest: SHA-256 of their content; empty if they could not be read.
        files: Names of its results in `CohortFolder.results`, by format.
        record: Name of its record beside them; empty if it failed.
        error: Why it failed, a sentence.
        deaths: How many workers died with it.
        seconds: How long the last attempt took.
        worker: Who did it.
        finished: When, in UTC (ISO 8601).
        to_redo: Whether it is to be done again, whatever became of it.
    """

    case: str
    state: State
    settings: str
    stamp: str = ""
    digest: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    record: str = ""
    error: str = ""
    deaths: int = 0
    seconds: float = 0.0
    worker: str = ""
    finished: str = ""
    to_redo: bool = False


def write_outcome(cohort: CohortFolder, outcome: Outcome) -> None:
    """Write what became of a case, in place of what was known before.

    Raises:
        OutputError: It cannot be written.
    """
    # One that a power cut empties is not known, so that its case is done again.
    write_text(
        _file(cohort, outcome.case, outcome.state),
        json.dumps(asdict(outcome), ensure_ascii=False),
        flush=False,
    )
    other = STATES[1 - STATES.index(outcome.state)]
    _file(cohort, outcome.case, other).unlink(missing_ok=True)


def read_outcome(cohort: CohortFolder, case: str) -> Outcome | None:
    """Return what became of a case; None if it is not known, or damaged, so that it is redone."""
    for state in STATES:
        try:
            entries = json.loads(_file(cohort, case, state).read_text(encoding="utf-8"))
            return Outcome(**entries)
        except FileNotFoundError:
            continue
        except (ValueError, TypeError):
            return None
    return None


def redo_case(cohort: CohortFolder, case: str) -> None:
    """Have a case done again; its results stay until it is, and until then it is known whose.

    Raises:
        OutputError: That cannot be written.
    """
    outcome = read_outcome(cohort, case)
    if outcome is not None:
        path = _file(cohort, case, outcome.state)
        finished = path.stat().st_mtime_ns  # which tells how many are finished an hour
        write_outcome(cohort, replace(outcome, to_redo=True))
        with writing_to(path):
            os.utime(path, ns=(finished, finished))


def cases_in_state(cohort: CohortFolder, state: State) -> set[str]:
    """Return the names of all cases that are done, or that failed; no file is opened."""
    return {name.removesuffix(".json") for name in cohort.names_in("status", state)}


def results_are_there(cohort: CohortFolder, outcome: Outcome) -> bool:
    """Return whether all results of a case that was done are in their place."""
    folder = cohort.results(outcome.case)
    names = [*outcome.files.values(), outcome.record]
    return outcome.state == "done" and all((folder / name).is_file() for name in names)


def is_current(cohort: CohortFolder, case: CohortCase, outcome: Outcome | None) -> bool:
    """Return whether nothing has to be done for a case: its images and settings are as they were.

    No image is read: see `volseg.cohort.content`.
    """
    if outcome is None or outcome.to_redo or outcome.settings != cohort.settings.key:
        return False
    if outcome.state == "done" and not results_are_there(cohort, outcome):
        return False
    try:
        return stamp_of(case.paths, case.series) == outcome.stamp
    except InputError:
        return outcome.state == "failed" and not outcome.stamp


def _file(cohort: CohortFolder, case: str, state: State) -> Path:
    return cohort.path / "status" / state / cohort.shard(case) / f"{case}.json"
