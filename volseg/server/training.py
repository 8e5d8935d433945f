"""Training on the server: one run at a time, in a process of its own that can be stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from volseg.bundle import Bundle
from volseg.errors import InputError
from volseg.server.datastore import Datastore, read_info
from volseg.server.own_folder import new_identifier, own_entries

_log = logging.getLogger(__name__)
_FEWEST = 2  # one is held out
_WORK, _LOG = "work", "log.txt"


class Busy(Exception):  # noqa: N818 - an answer, not a fault
    """Another run is under way."""


class TrainingTask(BaseModel):
    """A run of training, in the words of MONAI Label."""

    id: str
    status: Literal["SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"] = "SUBMITTED"
    request: dict[str, Any]
    start_ts: str
    end_ts: str | None = None
    result: str | None = None
    details: list[str] = []

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("DONE", "ERROR", "STOPPED")


class Trainer:
    """What trains the bundles of a server.

    Args:
        folder: to work in; the log of the last run stays there.
        trained: where trained bundles go, for the catalogue.
        datastore: whose finished labels are trained on.
        device: such as ``cpu``.
    """

    def __init__(self, folder: Path, trained: Path, datastore: Datastore, device: str) -> None:
        self._folder = folder
        self._trained = trained
        self._datastore = datastore
        self._device = device
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self.task: TrainingTask | None = None
        self.progress: dict[str, float] = {}
        self._clear()

    async def start(
        self, bundle: Bundle, epochs: int | None, request: dict[str, Any]
    ) -> TrainingTask:
        """Start a run and return it; it tells how it goes.

        Raises:
            InputError: there are too few finished labels.
            Busy: another run is under way.
        """
        if self.task is not None and not self.task.has_ended:
            raise Busy
        cases = {
            name: {"image": str(image), "label": str(label), "values": _values(label)}
            for name, (image, label) in self._datastore.finished().items()
        }
        if len(cases) < _FEWEST:
            raise InputError(
                f"the datastore has {len(cases)} images with a finished label; training needs "
                f"{_FEWEST} at least: submit more labels."
            )
        identifier = new_identifier()
        result = self._trained / f"{bundle.name}_{time.strftime('%Y%m%d_%H%M%S')}"
        self._clear()
        folder = self._folder / identifier
        folder.mkdir(parents=True)
        self.task = TrainingTask(id=identifier, request=request, start_ts=_now())
        self.progress = {}
        order = {
            "bundle": str(bundle.folder),
            "folder": str(folder / _WORK),
            "cases": cases,
            "epochs": epochs,
            "device": self._device,
            "result": str(result),
        }
        try:
            self._process = await _launched(folder / _LOG)
        except OSError:
            self.task.status, self.task.end_ts = "ERROR", _now()
            self.task.result = "the process that trains could not be started."
            raise
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self.task.status = "RUNNING"
        self._watching = asyncio.create_task(self._watch(self._process, self.task, result.name))
        return self.task

    async def stop(self) -> None:
        """Stop the run, if there is one; nothing of it is kept."""
        if self.task is not None and self._process is not None and not self.task.has_ended:
            self.task.status, self.task.end_ts = "STOPPED", _now()
            self._process.kill()
        if self._watching is not None:
            await self._watching

    async def _watch(
        self, process: asyncio.subprocess.Process, task: TrainingTask, name: str
    ) -> None:
        assert process.stdout is not None
        began = time.monotonic()
        error = "the process that trained ended unexpectedly."
        while line := await process.stdout.readline():
            message: Mapping[str, Any] = json.loads(line)
            error = message.get("error", error)
            if "epoch" in message:
                self.progress = {
                    "epoch": message["epoch"],
                    "total_epochs": message["epochs"],
                    "best_metric": max(
                        message["metric"] or 0.0, self.progress.get("best_metric", 0.0)
                    ),
                }
                task.details = [f"epoch {message['epoch']} of {message['epochs']}"]
        code = await process.wait()
        folder = self._folder / task.id
        await asyncio.to_thread(shutil.rmtree, folder / _WORK, ignore_errors=True)
        if task.has_ended:
            return
        task.status, task.end_ts = ("DONE" if code == 0 else "ERROR"), _now()
        task.result = f"the bundle {name}" if code == 0 else error
        task.details = [*task.details, task.result]
        self.progress["total_time"] = round(time.monotonic() - began, 1)
        _log.info("training %s: %s, its log is %s", task.id, task.status, folder / _LOG)

    def _clear(self) -> None:
        """Remove what earlier runs left, also those that ended with an earlier process."""
        for left in own_entries(self._folder):
            shutil.rmtree(left, ignore_errors=True)


async def _launched(log: Path) -> asyncio.subprocess.Process:
    """Return the process that trains, which waits for its order."""
    # Not to the log of the server: file names are in it, which may be those of patients.
    with log.open("wb") as stream:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "volseg.server.training_process"),  # nothing of the folder it is in
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
        )


def _values(label: Path) -> dict[str, int] | None:
    """Return what the values of a label are called, as the client said when it sent it."""
    listed = read_info(label).get("label_info")
    if not isinstance(listed, list):
        return None
    return {
        str(entry["name"]): entry["idx"]
        for entry in listed
        if isinstance(entry, dict) and "name" in entry and _is_value(entry.get("idx"))
    }


def _is_value(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**16


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
