"""The queue: jobs come in, wait on the disk, are computed one a device, and are removed in time.

All of it happens in the event loop of the server, what takes long in threads; only the processes
that compute run beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from volseg import __version__
from volseg.errors import OutputError, VolsegError
from volseg.server.catalogue import Catalogue
from volseg.server.datastore import Datastore
from volseg.server.faults import described, is_of_the_disk
from volseg.server.jobs import Job, JobFolder, Outcome, held_bytes
from volseg.server.models import Health, JobStatus, Progress
from volseg.server.sessions import Sessions
from volseg.server.settings import ServerSettings
from volseg.server.training import Trainer
from volseg.server.worker_process import WorkerProcess

_log = logging.getLogger(__name__)
_MOST_ATTEMPTS = 3
_SECONDS_BETWEEN_TIDYING = 30.0
_ALWAYS_FREE = 1 << 30  # bytes, for what the jobs at hand need
_LEAST_FREE = 1 << 28  # bytes, without which none is begun
_SECONDS_UNTIL_ROOM = 10.0


class FullError(VolsegError):
    """The server takes no more at the moment; the same request may be taken later."""


class Service:
    """Everything a server does, without HTTP.

    Args:
        settings: of the server.
        catalogue: of its bundles.
        devices: names of devices, each of which gets a process.
    """

    def __init__(self, settings: ServerSettings, catalogue: Catalogue, devices: list[str]) -> None:
        self.settings = settings
        self.catalogue = catalogue
        limits = settings.limits
        self.folder = JobFolder(settings.jobs_folder)
        self.sessions = Sessions(settings.folder / "sessions", limits)
        self.datastore = Datastore(settings.datastore_folder, most_bytes=limits.unpacked_bytes)
        self.trainer = Trainer(
            settings.folder / "training", catalogue.trained, self.datastore, devices[-1]
        )
        self._workers = {device: WorkerProcess(device, settings) for device in devices}
        self._at_work: dict[str, WorkerProcess] = {}
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._changed: dict[str, asyncio.Event] = {}
        self._work_came = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._uploads = 0
        self._expected_bytes = 0

    async def start(self) -> None:
        """Take up the jobs an earlier process left, and begin to work."""
        for job in self.folder.load():
            self._jobs[job.id] = job
            if job.state == "running" and job.attempts >= _MOST_ATTEMPTS:
                why = f"the server ended {job.attempts} times during it."
                await self._end(job, Outcome(ended="failed", error=why))
            elif not job.has_ended:
                job.state, job.progress = "queued", Progress()
                self._waiting.append(job.id)
        if self._waiting:
            _log.info("%d jobs of an earlier run are in the queue", len(self._waiting))
        self._tasks = [
            asyncio.create_task(self._compute(worker)) for worker in self._workers.values()
        ]
        self._tasks.append(asyncio.create_task(self._tidy()))

    async def stop(self) -> None:
        """Stop working; what waits or is being computed is taken up by the next process."""
        interrupted = [self._jobs[identifier] for identifier in self._at_work]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        await self.trainer.stop()
        for job in interrupted:
            if not job.has_ended:
                job.attempts -= 1  # it is not the job that brought the server down
                self._save(job)

    def health(self) -> Health:
        """Return how busy the server is."""
        return Health(
            version=__version__,
            devices=list(self._workers),
            queued=len(self._waiting),
            running=len(self._at_work),
        )

    @contextlib.asynccontextmanager
    async def receiving(self, expected_bytes: int) -> AsyncIterator[Path]:
        """Give a folder to receive an upload into, if there is room for it.

        Args:
            expected_bytes: how large it will be at most.

        Raises:
            FullError: the queue or the disk is full, or too many others are uploading already.
        """
        self._require_short_queue()
        if self._uploads >= self.settings.limits.uploads:
            raise FullError(f"{self._uploads} clients are uploading, the most this server takes.")
        self._uploads += 1
        self._expected_bytes += expected_bytes
        try:
            await self._make_room()
            with self.folder.incoming() as folder:
                yield folder
        finally:
            self._uploads -= 1
            self._expected_bytes -= expected_bytes

    async def submit(self, job: Job, received: Path) -> None:
        """Put a job whose input was received into the queue; it is on the disk then.

        Raises:
            FullError: the queue is full.
        """
        self._require_short_queue()
        await asyncio.to_thread(self.folder.take, received, job)
        self._jobs[job.id] = job
        self._waiting.append(job.id)
        async with self._work_came:
            self._work_came.notify()

    def find(self, identifier: str) -> Job | None:
        """Return a job, or None if there is none of this name."""
        return self._jobs.get(identifier)

    def jobs(self) -> list[JobStatus]:
        """Return all jobs, the oldest first."""
        return [self.status(job) for job in self._jobs.values()]

    def status(self, job: Job) -> JobStatus:
        """Return what a client sees of a job."""
        return job.status(self.settings.limits.keep_seconds)

    async def cancel(self, job: Job) -> None:
        """Give up a job that waits or is being computed; others are left as they are."""
        if job.id in self._at_work:
            self._at_work[job.id].cancel()
        elif job.id in self._waiting:
            self._waiting.remove(job.id)
            await self._end(job, Outcome(ended="cancelled"))

    async def forget(self, job: Job) -> None:
        """Remove a job that has ended."""
        self._jobs.pop(job.id, None)
        self._changed.pop(job.id, None)
        await asyncio.to_thread(self.folder.remove, job)

    async def changes(self, job: Job) -> AsyncIterator[None]:
        """Yield now, after every change of a job, and at least every ten seconds, until it ends."""
        while True:
            event = self._changed.setdefault(job.id, asyncio.Event())
            yield
            if job.has_ended:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 10)

    async def _compute(self, worker: WorkerProcess) -> None:
        """Take one job after the other."""
        while True:
            async with self._work_came:
                await self._work_came.wait_for(lambda: self._waiting)
            job = self._jobs[self._waiting.popleft()]
            self._at_work[job.id] = worker
            outcome: Outcome | None = None
            try:
                outcome = await self._outcome(worker, job)
            except FullError as error:  # which is no fault of the job
                self._waiting.appendleft(job.id)
                _log.warning("%d jobs wait: %s", len(self._waiting), error)
            except OutputError:  # which says where the files of this server lie
                why = "its folder on the server cannot be written."
                outcome = Outcome(ended="failed", error=why)
            except VolsegError as error:  # the bundle is not served any more
                outcome = Outcome(ended="failed", error=str(error))
            except Exception as error:  # a fault of ours must not stop the queue
                _log.error("job %s:\n%s", job.id, described(error))
                await worker.stop()
                outcome = Outcome(ended="failed", error=f"unexpected {type(error).__name__}.")
            finally:
                self._at_work.pop(job.id, None)
            if outcome is None:
                await asyncio.sleep(_SECONDS_UNTIL_ROOM)
            else:
                await self._end(job, outcome)

    async def _outcome(self, worker: WorkerProcess, job: Job) -> Outcome:
        """Do a job and return how it ended.

        Raises:
            FullError: it was not begun, as the disk is full or broken.
            OutputError: it was not begun, as its folder cannot be written.
            UnknownNameError: its bundle is not served any more.
        """
        bundle = self.catalogue.find(job.bundle).folder
        job.state, job.started, job.attempts = "running", time.time(), job.attempts + 1
        try:
            if shutil.disk_usage(self.settings.folder).free < _LEAST_FREE:
                raise FullError("there is no room for results.")
            self.folder.save(job)
        except VolsegError as error:
            job.state, job.started, job.attempts = "queued", None, job.attempts - 1
            if is_of_the_disk(error.__cause__):
                raise FullError("the disk is full or broken.") from error
            raise
        self._tell(job)

        def report(progress: Progress) -> None:
            job.progress = progress
            self._tell(job)

        return await worker.run(job, self.folder.path(job), bundle, report)

    async def _end(self, job: Job, outcome: Outcome) -> None:
        job.held_bytes = await asyncio.to_thread(held_bytes, self.folder.path(job))
        job.state, job.error, job.files = outcome.ended, outcome.error, outcome.files
        job.ended = time.time()
        self._save(job)
        _log.info("job %s: %s", job.id, job.state)
        self._tell(job)

    def _save(self, job: Job) -> None:
        """Write down how far a job is; if that fails, it is done again after a restart: no harm."""
        try:
            self.folder.save(job)
        except OutputError:
            _log.error("job %s: that it is %s could not be written down", job.id, job.state)

    def _tell(self, job: Job) -> None:
        event = self._changed.pop(job.id, None)
        if event is not None:
            event.set()

    def _require_short_queue(self) -> None:
        if len(self._waiting) >= self.settings.limits.waiting_jobs:
            raise FullError(f"{len(self._waiting)} jobs are waiting, the most this server keeps.")

    async def _make_room(self) -> None:
        """Remove the oldest jobs that have ended until there is room for what is expected.

        Raises:
            FullError: there is none.
        """
        most = self.settings.limits.disk_bytes
        while self._held_bytes() > most:
            ended = next((job for job in self._jobs.values() if job.has_ended), None)
            if ended is None:
                why = "the disk that this server may use is full of jobs that wait and of sessions."
                raise FullError(why)
            await self.forget(ended)
        free = shutil.disk_usage(self.settings.folder).free
        if free < self._expected_bytes + _ALWAYS_FREE:
            raise FullError("the disk of this server is full.")

    def _held_bytes(self) -> int:
        jobs = sum(job.held_bytes for job in self._jobs.values())
        return self._expected_bytes + self.sessions.held_bytes + jobs

    async def _tidy(self) -> None:
        """Remove what has expired, now and then."""
        while True:
            oldest = time.time() - self.settings.limits.keep_seconds
            for job in list(self._jobs.values()):
                if job.ended is not None and job.ended < oldest:
                    await self.forget(job)
            await self.sessions.tidy()
            await asyncio.sleep(_SECONDS_BETWEEN_TIDYING)
