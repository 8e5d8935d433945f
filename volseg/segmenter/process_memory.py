"""How much memory this process holds, now and at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_INTERVAL = 0.002  # seconds, where the system keeps no peak that can be reset


@dataclass
class Peak:
    """The most memory held during a `measured_peak`.

    Attributes:
        resident: Bytes; 0 until the measurement has ended.
    """

    resident: int = 0


def resident_bytes() -> int:
    """Return the memory that the process holds now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Return the most memory that the process has held since it began or a measurement did."""
    return _high_water_mark() if _STATUS.is_file() else resident_bytes()


@contextmanager
def measured_peak() -> Iterator[Peak]:
    """Measure the most memory that the process holds while the block runs.

    Linux keeps that figure itself and it is reset here; elsewhere it is looked at every two
    milliseconds.
    """
    peak = Peak()
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        with _watched(peak):
            yield peak
        return
    try:
        yield peak
    finally:
        peak.resident = _high_water_mark()


def _high_water_mark() -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return resident_bytes()


@contextmanager
def _watched(peak: Peak) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            peak.resident = max(peak.resident, resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        peak.resident = max(peak.resident, resident_bytes())
