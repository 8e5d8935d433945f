"""Calls a function in several processes that train together, quickly: modules are loaded once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_PATIENCE = 120  # seconds


def in_processes(
    count: int, function: Callable[..., Any], *arguments: Any, all_end: bool = True
) -> list[Any]:
    """Return what a function returns in each of some processes, as torchrun would start them.

    Of one that is killed there is nothing, which is an error unless not ``all_end``.
    """
    _CONTEXT.set_forkserver_preload(["volseg.training"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / str(rank) for rank in range(count)]
        processes = [
            _CONTEXT.Process(target=_work, args=(rank, count, port, result, function, arguments))
            for rank, result in enumerate(results)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
        found = [pickle.loads(path.read_bytes()) for path in results if path.is_file()]
    assert len(found) == count or not all_end, [process.exitcode for process in processes]
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def wait_at_most(seconds: float) -> None:
    """Make what the processes do together fail where one is late, but at a `Meeting`."""
    from torch.distributed import distributed_c10d

    distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


def _work(rank, count, port, result, function, arguments):
    # pytest's filters of warnings do not come along.
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch

    from volseg.training import join_processes, leave_processes

    torch.set_num_threads(1)
    try:
        join_processes(torch.device("cpu"))
        found = function(*arguments)
        leave_processes()
    except BaseException as error:
        found = error
        sys.excepthook(type(error), error, error.__traceback__)
    result.write_bytes(pickle.dumps(found))
