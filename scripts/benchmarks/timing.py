"""Timing that a drift of the machine does not touch: everything compared is run in turns."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from volseg.atomic import write_text

Run = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """A ratio of seconds, formed turn by turn: its median and its quartiles."""

    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower:.2f} to {self.upper:.2f})"


def interleaved(runs: Sequence[Run], repeats: int) -> list[list[float]]:
    """Return the seconds of each run, ``repeats`` of them, taken in turns after a warm-up.

    The order turns around each time, so that a drift of the machine meets all alike.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    turn = list(zip(runs, seconds, strict=True))
    for repeat in range(repeats):
        for run, taken in turn if repeat % 2 == 0 else turn[::-1]:
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Return the seconds above to the seconds below, turn by turn."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0])
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, lower, upper)


def use_threads(count: int) -> None:
    """Give torch, and with it volseg and MONAI, and ITK, and with it TorchIO, so many threads.

    numpy's and scipy's transforms and filters, where anybody uses them, have one thread anyway.
    """
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses as JSON."""
    write_text(path, json.dumps([asdict(one) for one in rows], indent=2) + "\n")
