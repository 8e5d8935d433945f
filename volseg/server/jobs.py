"""Jobs on the disk: each is a folder that appears whole, and outlives the server's process.

``jobs/<id>/job.json`` says what is to be done and how far it is, ``input/`` holds the image or the
DICOM files under names of ours, ``results/`` what was made, once the job is done.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from volseg.atomic import flush_folder, write_text, writing_to
from volseg.server.models import ENDED, JobOptions, JobStatus, Progress, ResultFormat, State
from volseg.server.own_folder import new_identifier, own_entries

_log = logging.getLogger(__name__)
_STATE = "job.json"
RECORD = "record.json"
"""The record of the case, among the results."""


class Job(BaseModel):
    """One image to be segmented; everything that a restarted server needs to know of it.

    Attributes:
        id: cannot be guessed.
        bundle: name of the bundle.
        options: how it is read and which results are made.
        inputs: path in the folder of the job, by channel; of a bundle's only image under `image`.
        reference: address of a series that is fetched first, instead of `inputs`.
        contiguous: whether the label map is wanted with labels 1 to N, as MONAI Label has them.
        files: names of the results, by format, once it is done.
        attempts: how often it was begun; a job that brings the server down is not begun for ever.
        held_bytes: on the disk.
    """

    id: str
    bundle: str
    options: JobOptions
    inputs: dict[str, str] = {}
    reference: str | None = None
    contiguous: bool = False
    state: State = "queued"
    progress: Progress = Progress()
    error: str | None = None
    files: dict[ResultFormat, str] = {}
    attempts: int = 0
    held_bytes: int = 0
    created: float
    started: float | None = None
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    def status(self, keep_seconds: float) -> JobStatus:
        """Return what a client sees of it."""
        return JobStatus(
            id=self.id,
            bundle=self.bundle,
            state=self.state,
            progress=self.progress,
            error=self.error,
            formats=self.options.formats,
            created=self.created,
            started=self.started,
            ended=self.ended,
            expires=None if self.ended is None else self.ended + keep_seconds,
        )


class Outcome(BaseModel):
    """How a job ended: in the words of the process that computed it."""

    ended: Literal["done", "failed", "cancelled"]
    error: str | None = None
    files: dict[ResultFormat, str] = {}


class JobFolder:
    """The folder of all jobs; used by one process at a time.

    Args:
        folder: made if missing; what an interrupted upload left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in own_entries(self._incoming):
            shutil.rmtree(left, ignore_errors=True)

    def path(self, job: Job) -> Path:
        """Return the folder of a job."""
        return self._folder / job.id

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a folder to receive into; it is removed at the end, unless a job has taken it."""
        folder = self._incoming / new_identifier()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def take(self, received: Path, job: Job) -> None:
        """Make a folder that was received into that of a job, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        with writing_to(self.path(job)):
            job.held_bytes = held_bytes(received)
            (received / _STATE).write_text(job.model_dump_json(), encoding="utf-8")
            flush_folder(received)  # what was accepted outlives a power cut
            received.rename(self.path(job))

    def save(self, job: Job) -> None:
        """Write down how far a job is.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(self.path(job) / _STATE, job.model_dump_json())

    def load(self) -> list[Job]:
        """Return all jobs, in the order they came in; one that cannot be read is left alone.

        It may be a newer version's, or the disk's fault, and what was accepted is not thrown away.
        """
        jobs = []
        for folder in own_entries(self._folder):
            try:
                jobs.append(Job.model_validate_json((folder / _STATE).read_bytes()))
            except (OSError, ValidationError) as error:
                kind = type(error).__name__
                _log.error("the job in %s cannot be read (%s) and was left there", folder, kind)
        return sorted(jobs, key=lambda job: job.created)

    def remove(self, job: Job) -> None:
        """Remove a job and all that belongs to it; if interrupted, at the next start."""
        going = self._incoming / job.id
        with contextlib.suppress(OSError):
            self.path(job).rename(going)
        shutil.rmtree(going, ignore_errors=True)


def new_job(
    bundle: str,
    options: JobOptions,
    *,
    inputs: dict[str, str] | None = None,
    reference: str | None = None,
    contiguous: bool = False,
) -> Job:
    """Return a job that waits, with an identifier of its own."""
    return Job(
        id=new_identifier(),
        bundle=bundle,
        options=options,
        inputs=inputs or {},
        reference=reference,
        contiguous=contiguous,
        created=time.time(),
    )


def held_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
