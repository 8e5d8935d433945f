"""One record of a training: of what, on what, with what, how long, and to what end."""

from __future__ import annotations

import json
import logging
import math
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from volseg.atomic import write_text
from volseg.bundle import is_setting, open_bundle
from volseg.data import hash_files, read_datalist
from volseg.segmenter import peak_bytes
from volseg.training.clock import TrainingClock
from volseg.training.history import TrainingHistory
from volseg.training.machine import describe_machine
from volseg.training.run_settings import CHANGEABLE

_log = logging.getLogger(__name__)

_PACKAGES = ("monai", "pytorch-ignite", "numpy", "scipy")


class RecordRun:
    """MONAI handler: writes ``run.json`` beside the checkpoint when a training starts and ends.

    It has the bundle (name, version, state in git), the SHA-256 of the data, settings, machine,
    versions, the state of volseg's own code in git, the command, times, peak memory (of the first
    process, since its last start), and how it ended. What is learned at the start stays where the
    training goes on later; ``starts`` has a time for each, and ``changes`` what was another from
    then on, with the epoch after which: settings, and the SHA-256 of the data. A training that was
    finished before leaves it as it is.

    Args:
        bundle_root: The bundle.
        dataset_dir: What the paths of the datalist are relative to.
        settings: Of the run.
        history: Of the training; attach it before.
        clock: Of the training.
        datalist: File that lists the cases; the bundle's own by default.
    """

    FILE = "run.json"

    def __init__(
        self,
        bundle_root: str | Path,
        dataset_dir: str | Path,
        settings: Mapping[str, Any],
        history: TrainingHistory,
        clock: TrainingClock,
        *,
        datalist: str | Path | None = None,
    ) -> None:
        self._datalist = Path(datalist or Path(bundle_root, "configs", "datalist.json"))
        #: The bundle that is trained, where another one than the copy that it is trained in.
        self.origin = Path(bundle_root)
        self._data = Path(dataset_dir)
        self._settings = settings
        self._history = history
        self._clock = clock
        self._record: dict[str, Any] = {}
        self._trains = True

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after what loads a checkpoint."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _start(self, engine: Engine) -> None:
        before = read_run_record(self._history.folder) if self._history.rows else {}
        self._trains = not engine.should_terminate
        if before and not self._trains:
            self._record = before
            return
        bundle, data = open_bundle(self.origin), self._describe_data()
        self._record = {
            "bundle": {
                "name": bundle.metadata.get("name", bundle.name),
                "version": bundle.metadata.get("version"),
                "git": git_state(bundle.folder),
            },
            "data": data,
            "settings": {key: one for key, one in self._settings.items() if is_setting(one)},
            "machine": describe_machine(torch.device(engine.state.device)),
            "versions": {name: version(name) for name in _PACKAGES},
            "code": git_state(Path(__file__).parents[1]),
            "processes": idist.get_world_size(),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "starts": [*before.get("starts", ()), _now()],
            "changes": [*before.get("changes", ()), *self._changes(before, data, engine)],
            "status": "running",
        }
        self._write()

    def _changes(
        self, before: Mapping[str, Any], data: Mapping[str, Any], engine: Engine
    ) -> list[dict[str, Any]]:
        """Return what is another than in the run that is gone on with."""
        if not before:
            return []
        old = {**before["settings"], "data": before["data"]["sha256"]}
        new = {**self._settings, "data": data["sha256"]}
        epoch = engine.state.epoch
        if old["data"] != new["data"]:
            _log.warning(
                "the files of the cases in %s have changed since epoch %d (their SHA-256 then and "
                "now are in %s): train into another folder if they should be the same.",
                *(self._data, epoch, self._history.folder / self.FILE),
            )
        return [
            {"epoch": epoch, "name": name, "before": old.get(name), "after": new.get(name)}
            for name in (*CHANGEABLE, "data")
            if old.get(name) != new.get(name)
        ]

    def _describe_data(self) -> dict[str, Any]:
        cases = read_datalist(self._datalist)
        fold = self._settings.get("fold")
        return {
            "sha256": hash_files(self._data / name for case in cases for name in case.files),
            "training_cases": self._settings.get("cases")
            or sum(case.fold != fold for case in cases),
            "held_out_cases": sum(case.fold == fold for case in cases),
        }

    def _end(self, engine: Engine) -> None:
        if self._record.get("status") == "finished":
            return
        best = self._history.best
        epochs = engine.state.epoch
        by_epochs = epochs == engine.state.max_epochs
        by_time = self._clock.is_over
        seconds = self._clock.elapsed if self._trains else self._clock.elapsed_before
        self._record |= {
            "status": "finished",
            "ended_by": "seconds" if by_time else "epochs" if by_epochs else "patience",
            "epochs": epochs,
            "steps": engine.state.iteration,
            "seconds": round(seconds, 1),
            "best": None
            if best is None
            else {
                "epoch": best[0],
                self._history.key_metric: best[1] if math.isfinite(best[1]) else None,
            },
        }
        if self._trains:  # or else the run that did was killed before it could say so
            self._record |= {"end": _now(), "peak_memory_bytes": peak_bytes()}
            if torch.cuda.is_available():
                self._record["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._record, indent=2, allow_nan=False)
        write_text(self._history.folder / self.FILE, f"{text}\n")


def read_run_record(folder: str | Path) -> dict[str, Any]:
    """Return the record of a run; empty where there is none that can be read."""
    try:
        record = json.loads((Path(folder) / RecordRun.FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit of a folder, and whether it differs from that.

    None outside of git, or where nothing of it is kept there, as of an environment in a repository.
    """
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str:
        # The monitor that the folder's own configuration may name is not run.
        command = [git, "-C", str(folder), "-c", "core.fsmonitor=false", *words]
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 - fixed words
        return found.stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", "--", ".")
        return {
            "commit": ask("rev-parse", "HEAD"),
            "changed": bool(ask("status", "--porcelain", "--", ".")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
