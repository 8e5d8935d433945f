"""Workers as job arrays of SLURM, through submitit."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volseg.cohort.worker import WorkerOptions, work
from volseg.errors import InputError, MissingPackageError, VolsegError

_DEFAULT_MINUTES = 60
_PATIENCE = 90.0  # seconds; SLURM itself kills what has not left after 30
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


@dataclass(frozen=True)
class _Job:
    """What a job of an array does."""

    out: str
    options: WorkerOptions

    def __call__(self) -> int:
        """Work until nothing is left, or the job is told to end."""

        def leave(*_: object) -> None:
            raise SystemExit(128 + signal.SIGTERM)

        signal.signal(signal.SIGTERM, leave)  # in the place of submitit's, which ignores it
        return work(self.out, self.options)

    def checkpoint(self) -> Any:
        """Return what goes on in another job, when the time of this one is up."""
        import submitit  # noqa: PLC0415 - an optional package

        return submitit.helpers.DelayedSubmission(self)


class SlurmEngine:
    """Submits job arrays, a job a worker; a job whose time is up is queued again.

    Args:
        out: Folder of the cohort, on a file system that all nodes share.
        options: Of every worker.
        requested: What is asked of SLURM, by the names of `sbatch`'s options, such as
            ``partition``, ``time``, ``mem``, ``cpus-per-task``.
        interval: Seconds between looks at the queue of SLURM.

    Raises:
        InputError: There is no SLURM here, the time cannot be read, or the jobs are given a name.
        MissingPackageError: submitit is not installed.
    """

    def __init__(
        self,
        out: Path,
        options: WorkerOptions,
        requested: Mapping[str, str],
        *,
        interval: float = 10.0,
    ) -> None:
        try:
            from submitit.slurm.slurm import SlurmExecutor  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise MissingPackageError("running on SLURM", "submitit", "slurm") from error
        if shutil.which("sbatch") is None:
            raise InputError(
                "there is no SLURM here: run this where sbatch is, or without --slurm."
            )
        self.interval = interval
        self._name = f"volseg-{options.run}"
        self._logs = out / "queue" / "slurm"
        known = SlurmExecutor._valid_parameters() - {"additional_parameters"}
        parameters, others = slurm_parameters(requested, known)
        cores = parameters.get("cpus_per_task", 1)  # so many SLURM gives unasked
        self._job = _Job(str(out), replace(options, threads=options.threads or cores))
        # Nothing of the folder that this is called in.
        python = f"{shlex.quote(sys.executable)} -P"
        self._executor = SlurmExecutor(folder=self._logs, python=python)
        self._executor.update_parameters(
            **parameters, job_name=self._name, additional_parameters=others
        )
        self._jobs: list[Any] = []

    def start(self, count: int) -> None:
        """Submit an array of so many jobs.

        Raises:
            VolsegError: SLURM refuses it.
        """
        try:
            with self._executor.batch():
                self._jobs = [self._executor.submit(self._job) for _ in range(count)]
        except Exception as error:  # submitit hands on what sbatch says in classes of its own
            said = str(error).strip().split("\n")[-1]
            raise VolsegError(f"SLURM took no jobs: {said}") from error

    def running(self) -> int:
        """Return how many jobs of this run SLURM knows, those that wait as well."""
        asked = ["squeue", "--noheader", "--array", "--format=%i", f"--name={self._name}"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        if answer.returncode:  # the controller may be back at the next look
            return len(self._jobs)
        return len(answer.stdout.split())

    def stop(self) -> None:
        """Cancel all jobs, and wait until they are gone."""
        told = ["scancel", f"--name={self._name}"]
        subprocess.run(told, capture_output=True, check=False)  # noqa: S603 - as above
        until = time.monotonic() + _PATIENCE
        while self._jobs and self.running() and time.monotonic() < until:
            time.sleep(min(1.0, self.interval))

    def last_words(self) -> str:
        """Return the last line of the log of the last job that wrote one."""
        for job in reversed(self._jobs):
            log = Path(job.paths.stderr)
            lines = (
                log.read_text(encoding="utf-8", errors="replace").split("\n")
                if log.is_file()
                else []
            )
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f"{said[-1]} ({log})"
        return f"see {self._logs}"


def slurm_parameters(
    requested: Mapping[str, str], known: set[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what submitit has a name for, and all else, which goes to `sbatch` as it is.

    Raises:
        InputError: A time cannot be read, or the jobs are given a name.
    """
    parameters: dict[str, Any] = {"time": _DEFAULT_MINUTES}
    others: dict[str, str] = {}
    for option, value in requested.items():
        name = option.replace("-", "_")
        if name == "job_name":
            raise InputError(
                f"--slurm {option} cannot be chosen, as a run finds its jobs by their name: leave "
                "it out."
            )
        if name == "time":
            parameters[name] = _minutes(value)
        elif name not in known:
            others[option] = value
        else:
            parameters[name] = int(value) if value.isdigit() else value
    return parameters, others


def _minutes(text: str) -> int:
    """Return the minutes of a time as SLURM writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise InputError(f"the time {text!r} cannot be read: expected such as 90, 1:30:00, 1-12.")
    parts = [int(found[name] or 0) for name in ("first", "second", "third")]
    if found["days"] is not None or found["third"] is not None:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, parts[:2]
    total = 24 * 60 * int(found["days"] or 0) + 60 * hours + minutes + (seconds > 0)
    return max(1, total)
