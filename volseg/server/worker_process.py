"""The server's end of the process that computes: started when needed, and again if it died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from volseg.pacs import Connection
from volseg.server.jobs import Job, Outcome
from volseg.server.models import Progress
from volseg.server.settings import ServerSettings

_log = logging.getLogger(__name__)
_SECONDS_TO_STOP = 15.0  # between two tiles, or to fetch one more slice
_LONGEST_LINE = 1 << 20


class WorkerProcess:
    """A process that computes on one device; see `volseg.server.worker`.

    Args:
        device: such as ``cpu`` or ``cuda:0``.
        settings: of the server.
    """

    def __init__(self, device: str, settings: ServerSettings) -> None:
        self.device = device
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._killer: asyncio.TimerHandle | None = None
        self._given_up = False

    async def run(
        self, job: Job, folder: Path, bundle: Path, report: Callable[[Progress], None]
    ) -> Outcome:
        """Do a job, and return how it ended.

        Args:
            job: what is to be done.
            folder: where it lies.
            bundle: the folder of its bundle.
            report: called as it goes on.
        """
        self._given_up = False
        process = await self._running()
        assert process.stdout is not None
        message = {
            "do": "segment",
            "folder": str(folder),
            "bundle": str(bundle),
            "inputs": job.inputs,
            "reference": job.reference,
            "options": job.options.model_dump(),
            "contiguous": job.contiguous,
        }
        self._send(message)
        if self._given_up:  # while the process was being started
            self.cancel()
        try:
            while line := await process.stdout.readline():
                answer = json.loads(line)
                if "ended" in answer:
                    return Outcome.model_validate(answer)
                report(Progress(**answer["progress"]))
        finally:
            self._no_longer_stopping()
        code = await process.wait()
        self._process = None
        if self._given_up:
            return Outcome(ended="cancelled")
        _log.warning("the process on %s ended with %d; a new one is started", self.device, code)
        return Outcome(ended="failed", error=_sentence_of(code))

    def cancel(self) -> None:
        """Have the job at hand given up; if it does not end, the process does."""
        self._given_up = True
        if self._process is None or self._killer is not None:
            return
        self._send({"do": "cancel"})
        loop = asyncio.get_running_loop()
        self._killer = loop.call_later(_SECONDS_TO_STOP, self._kill)

    async def stop(self) -> None:
        """End the process."""
        self._no_longer_stopping()
        if self._process is not None:
            self._kill()
            await self._process.wait()
        self._process = None

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _no_longer_stopping(self) -> None:
        if self._killer is not None:
            self._killer.cancel()
            self._killer = None

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "volseg.server.worker"),  # nothing of the folder it is in
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server, which then ends this in good order
            limit=_LONGEST_LINE,
        )
        # Not as arguments, which everybody on the machine can see: secrets are among them.
        self._send(
            {
                "device": self.device,
                "memory": self._settings.memory,
                "most_bytes": self._settings.limits.unpacked_bytes,
                "connection": TypeAdapter(Connection).dump_python(
                    self._settings.connection, mode="json"
                ),
            }
        )
        return self._process

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # If the process has died, the end of its output says so.
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")


def _sentence_of(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; it may have needed more memory than there is" if name == "SIGKILL" else ""
        return f"the process that computed was ended by {name}{hint}: other jobs go on."
    return f"the process that computed ended unexpectedly (code {code}): other jobs go on."
