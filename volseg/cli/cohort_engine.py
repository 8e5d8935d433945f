"""Options of commands that start workers of a cohort: see `given`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from volseg.cli.option_groups import options_under
from volseg.cohort.presence import LEASE_SECONDS
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.cohort import Engine

_option = options_under("Workers")
# Options of sbatch whose values have commas in them.
_LISTS = {
    *("clusters", "constraint", "dependency", "exclude", "export", "gres", "licenses"),
    *("mail-type", "mail-user", "nodelist", "partition", "profile", "qos", "signal"),
}


@dataclass(frozen=True)
class EngineChoice:
    """Which workers are started, where and how many."""

    workers: int | None
    slurm: Mapping[str, str] | None
    dask: str | None
    lease: float

    def open(
        self, out: Path, *, device: str, memory: str | None, trust_code: bool
    ) -> tuple[Engine, int]:
        """Return what starts workers, and how many of them there are to be.

        Args:
            out: Folder of the cohort.
            device: Of each worker.
            memory: For all workers of this machine together; on a cluster for each.
            trust_code: Whether a bundle may execute code.

        Raises:
            InputError: The cluster is not there, or the memory cannot be read.
            MissingPackageError: A package for it is not installed.
        """
        from volseg.cohort import DaskEngine, LocalEngine, SlurmEngine, WorkerOptions
        from volseg.segmenter import bytes_of

        out = out.absolute()
        options = WorkerOptions(
            run=secrets.token_hex(4),
            device=device,
            memory=None if memory is None else bytes_of(memory),
            trust_code=trust_code,
            lease=self.lease,
        )
        if self.slurm is not None:
            if self.workers is None:
                raise InputError("--slurm needs the number of jobs at a time: add --workers.")
            return SlurmEngine(out, options, self.slurm), self.workers
        if self.dask is not None:
            on_dask = DaskEngine(out, options, self.dask)
            return on_dask, self.workers or len(on_dask.places)
        return LocalEngine.sharing(out, options, workers := self.workers or 1), workers


def engine_choice(
    workers: Annotated[
        int | None,
        _option(min=1, help="How many at a time; 1 here, as many as Dask has, needed on SLURM."),
    ] = None,
    slurm: Annotated[
        str | None,
        _option(
            metavar="OPTIONS",
            help="As job arrays of SLURM, with options of sbatch, such as "
            "partition=short,long,time=4:00:00,mem=8G,cpus-per-task=4.",
        ),
    ] = None,
    dask: Annotated[
        str | None,
        _option(
            metavar="ADDRESS", help="As tasks of Dask: the scheduler, such as tcp://host:8786."
        ),
    ] = None,
    lease: Annotated[
        float,
        _option(
            min=1.0,
            metavar="SECONDS",
            help="How long a worker of another machine may be silent before it counts as dead.",
        ),
    ] = LEASE_SECONDS,
) -> EngineChoice:
    """Return what the options say.

    Raises:
        InputError: Two engines are asked for, or an option of SLURM has no value.
    """
    if slurm is not None and dask is not None:
        raise InputError("--slurm and --dask cannot go together: choose one.")
    return EngineChoice(workers, None if slurm is None else _pairs(slurm), dask, lease)


def _pairs(text: str) -> dict[str, str]:
    """Return options by name; of those that take lists, a word without a name goes on with them."""
    pairs = {}
    parts = re.split(r",(?=[^,=]+=)", text)
    for part in filter(None, (word.strip(", ") for word in parts)):
        name, sign, value = part.partition("=")
        option = name.strip().removeprefix("--")
        if not sign or not name or not value or ("," in value and option not in _LISTS):
            raise InputError(
                f"--slurm {text!r} cannot be read at {part!r}: expected NAME=VALUE, such as "
                "partition=long,time=4:00:00."
            )
        pairs[option] = value.strip()
    return pairs
