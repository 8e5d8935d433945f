"""Parts of a reproduction: each is done once and kept in a small file, from which tables are made.

A row of results is done in parts, over days and machines if need be. ``results/ROW/PART.json`` has
what a part was, what came out or why it failed, and on what machine.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from volseg.atomic import write_text
from volseg.errors import InputError, OutputError, VolsegError
from volseg.training.machine import describe_machine, today

RESULTS = Path(__file__).with_name("results")

# Options whose values are places on the machine of whoever gives them.
_PLACES = ("--data", "--output", "--results", "--nnunet")


@dataclass(frozen=True)
class Part:
    """What one part of a row found.

    Attributes:
        part: Its name, unique in the row.
        settings: What makes it what it is: network, fold, seed, how long it was trained.
        figures: What was measured; empty if it failed.
        failure: Why there are none.
        date: When it ended.
        machine: Processor, threads, versions.
        command: That did it, without the places of its folders.
    """

    part: str
    settings: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    date: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    command: str = ""


class PartStore:
    """The parts of one row in a folder.

    Args:
        folder: Of the row.
        places: Folders of this machine, and what stands for them in what is kept.
    """

    def __init__(self, folder: Path, places: Mapping[Path, str] | None = None) -> None:
        self.folder = folder
        self.failed: list[str] = []
        self._places = places or {}

    def read(self) -> list[Part]:
        """Return all parts, those that failed among them, by name.

        Raises:
            InputError: A file is not one of ours.
        """
        return [_read(path) for path in sorted(self.folder.glob("*.json"))]

    def do(
        self, name: str, settings: Mapping[str, Any], work: Callable[[], dict[str, Any]]
    ) -> Part:
        """Return what was found before, or do the work and keep what it finds or why it fails.

        A part that failed before is tried again. One that fails does not stop those after it.

        Args:
            name: Of the part.
            settings: What the part is; plain values.
            work: Returns the figures, plain values.

        Raises:
            OutputError: The part was done before with other settings.
        """
        path = self.folder / f"{name}.json"
        if path.is_file():
            before = _read(path)
            if before.failure is None and before.settings != dict(settings):
                raise OutputError(
                    f"{path} was done with {before.settings}, not with {dict(settings)}: delete "
                    "it to do this part again, or give another folder with --results."
                )
            if before.failure is None:
                print(f"{name}: finished before", flush=True)
                return before
        figures: dict[str, Any] = {}
        failure = None
        try:
            figures = work()
        except Exception as error:  # kept and shown, and the next part is done
            if not isinstance(error, VolsegError):
                traceback.print_exc()
            failure = self._without_places(f"{type(error).__name__}: {error}")
            self.failed.append(name)
            print(f"{name}: failed: {error}", file=sys.stderr, flush=True)
        part = Part(
            part=name,
            settings=dict(settings),
            figures=figures,
            failure=failure,
            date=today(),
            machine=describe_machine(torch.device("cpu")),
            command=_command(),
        )
        write_text(path, _text(part))
        return part

    def _without_places(self, text: str) -> str:
        for place, word in self._places.items():
            text = text.replace(str(place.resolve()), word)
            if len(place.parts) > 1:  # a single word may be of the sentence
                text = text.replace(str(place), word)
        return text


def finished(parts: list[Part], **settings: Any) -> list[Part]:
    """Return the parts that did not fail and have these settings."""
    return [
        part
        for part in parts
        if part.failure is None
        and all(part.settings.get(name) == value for name, value in settings.items())
    ]


def plain(value: float) -> float | None:
    """Return a number as JSON can keep it: rounded, None if it is not finite."""
    return round(value, 5) if math.isfinite(value) else None


def _text(part: Part) -> str:
    """Return a part as JSON, a line for each entry and each figure."""
    entries = asdict(part)
    figures = [_entry(name, value) for name, value in entries.pop("figures").items()]
    lines = [_entry(name, value) for name, value in entries.items()]
    lines.append(f'"figures": {{{",".join(f"{chr(10)}  {one}" for one in figures)}}}')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _entry(name: str, value: object) -> str:
    return f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"


def _read(path: Path) -> Part:
    try:
        return Part(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no part of a reproduction ({type(error).__name__}: {error}): delete it, "
            "and the part is done again."
        ) from error


def _command() -> str:
    words = ["python", "scripts/reproduce.py"]
    before = ""
    for word in sys.argv[1:]:
        option, sign, value = word.partition("=")
        if sign and option.startswith("--"):
            words.append(f"{option}={_without_place(option, value)}")
        else:
            words.append(_without_place(before, word))
        before = word
    return shlex.join(words)


def _without_place(option: str, value: str) -> str:
    """Return the value of an option as others may read it."""
    if option in _PLACES:
        return "..."
    return Path(value).name if Path(value).is_absolute() else value
