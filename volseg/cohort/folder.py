"""The folder of a cohort: what is asked for, the cases, and where everything about them lies.

`cohort.json` holds the settings and `cases.jsonl` the cases, one a line. `cases/` has the results,
`status/` what became of each case, `queue/` the tickets of those that wait or are worked on. Of a
large cohort each of these is dealt into 256 folders by the name of the case, as file systems
dislike folders of a hundred thousand files.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.atomic import write_together
from volseg.cohort.case import CohortCase, require_usable_names
from volseg.cohort.settings import CohortSettings
from volseg.errors import InputError

_FORMAT = 1
_MOST_IN_ONE_FOLDER = 5000
_SHARDS = 256


@dataclass(frozen=True)
class CohortFolder:
    """The folder of a cohort that has been prepared.

    Attributes:
        path: The folder.
        shards: Into how many folders cases are dealt; kept from the first run on.
        settings: What is asked for.
    """

    path: Path
    shards: int
    settings: CohortSettings

    @classmethod
    def prepare(
        cls, path: str | Path, settings: CohortSettings, cases: Iterable[CohortCase]
    ) -> CohortFolder:
        """Write down what is asked for, in place of what was asked for before.

        Raises:
            InputError: The folder holds a cohort of a newer volseg, or names cannot be used.
            OutputError: The folder cannot be written.
        """
        path = Path(path).absolute()
        cases = list(cases)
        require_usable_names(cases, path)
        lines = [case.as_line() for case in cases]
        shards = 1 if len(lines) <= _MOST_IN_ONE_FOLDER else _SHARDS
        if (path / "cohort.json").exists():
            shards = _read(path)["shards"]
        about = {"format": _FORMAT, "shards": shards, "settings": settings.as_json()}
        write_together(
            {
                path / "cases.jsonl": "".join(f"{line}\n" for line in lines),
                path / "cohort.json": json.dumps(about, indent=2) + "\n",
            }
        )
        return cls(path, shards, settings)

    @classmethod
    def open(cls, path: str | Path) -> CohortFolder:
        """Return a cohort that was prepared before.

        Raises:
            InputError: It was not, or by a newer volseg.
        """
        path = Path(path).absolute()
        about = _read(path)
        return cls(path, about["shards"], CohortSettings.from_json(about["settings"]))

    def read_cases(self) -> dict[str, CohortCase]:
        """Return the cases by name, in the order of the manifest."""
        with (self.path / "cases.jsonl").open(encoding="utf-8") as lines:
            return {case.case: case for case in map(CohortCase.from_line, lines)}

    def edition(self) -> tuple[int, int]:
        """Return what tells whether settings or cases were written anew."""
        found = (self.path / "cohort.json").stat()
        return found.st_mtime_ns, found.st_ino

    def shard(self, case: str) -> str:
        """Return the folder that a case is dealt to; empty where there is only one."""
        return "" if self.shards == 1 else f"{zlib.crc32(case.encode()) % self.shards:02x}"

    def shard_names(self) -> list[str]:
        """Return all folders that cases are dealt to."""
        return [""] if self.shards == 1 else [f"{number:02x}" for number in range(self.shards)]

    def results(self, case: str) -> Path:
        """Return the folder that the results of a case lie in."""
        return self.path / "cases" / self.shard(case)

    def names_in(self, *parts: str) -> set[str]:
        """Return the names of all files in the shards of a folder."""
        return {
            name
            for shard in self.shard_names()
            for name in list_names(self.path.joinpath(*parts, shard))
        }


def list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what `list_names` names, with what the file system tells along."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, but those of files that are being written; [] without it."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, Any]:
    file = path / "cohort.json"
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} holds no cohort: begin one with `volseg cohort run MANIFEST -o {path}`."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{file} is damaged ({error}): remove it and run the cohort anew."
        ) from error
    if about.get("format") != _FORMAT:
        raise InputError(
            f"{file} has the format {about.get('format')}, this volseg knows {_FORMAT}: use the "
            "volseg that began the cohort, or another folder."
        )
    return about
