"""Several processes of this machine that train together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from volseg.errors import VolsegError
from volseg.job_limits import usable_processors
from volseg.processes import launched_count


def was_launched() -> bool:
    """Return whether this is one of several processes, started by ``torchrun`` or from here."""
    return launched_count() > 1


def is_first_process() -> bool:
    """Return whether this is the process that writes files, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def run_in_processes(count: int, words: Sequence[str]) -> int:
    """Run ``volseg`` in some processes of this machine, as ``torchrun`` does, and wait for them.

    They share the cores that this job may use, unless ``OMP_NUM_THREADS`` says otherwise. When one
    ends before its time, the others are stopped.

    Args:
        count: How many.
        words: Of the command line.

    Returns:
        The exit code: 0, or that of the process that failed, which has said why.

    Raises:
        VolsegError: A process was killed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_processors() // count)))
    # What it says of failures is a page; the process that failed has said it in a sentence.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    configuration = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        with _own_signal_handlers():
            # Nothing of the folder that this is called in.
            elastic_launch(configuration, sys.executable)("-P", "-m", "volseg", *words)
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        for rank, code in codes.items():
            if code < 0 and -code != signal.SIGTERM:
                raise VolsegError(
                    f"process {rank} of {count} was killed by {signal.Signals(-code).name} (out of "
                    "memory, perhaps), and so the others were stopped."
                ) from None
        return int(error.get_first_failure()[1].exitcode)
    return 0


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put back what torch's launcher sets and leaves behind."""
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
