"""Memory that a training on a CPU frees stays with it, in huge pages, for its next step.

The C library gives large blocks back to the system, which hands them out again page by page, each
filled with zeros: tens of thousands of pages a step, and as many entries that the processor looks
up. Kept, and in pages of 2 MiB where Linux gives them on request, they cost neither.
"""

from __future__ import annotations

import ctypes
import logging
import sys

import torch
from ignite.engine import Engine, Events

from volseg.job_limits import memory_of_job

_log = logging.getLogger(__name__)

# Of mallopt(3), as glibc's malloc.h has them, and of madvise(2).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MADVISE_HUGE_PAGES = 14
_HUGE_PAGE = 1 << 21
# What glibc has by itself: the number of blocks, and the size it adapts to at most.
_USUAL_NUMBER, _USUAL_SIZE = 65536, 1 << 25
# Address space, not memory, in which the heap then grows; without overcommitment it is refused.
_SHARE_OF_MEMORY = 0.5


class KeepMemory:
    """MONAI handler: the process keeps freed memory while it trains, and gives it back at the end.

    So it does where the end is an error or Ctrl-C. It raises that again, and what else is attached
    to ``Events.EXCEPTION_RAISED`` after it is not called.

    Results do not change, nor does the peak by more than a few percent. Does nothing on an
    accelerator and where the C library is not glibc.

    Args:
        device: Where training happens.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._kept = torch.device(device).type == "cpu"

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self._kept and has_glibc():
            engine.add_event_handler(Events.STARTED, keep_freed_memory)
            for end in (Events.COMPLETED, Events.TERMINATE):  # the second may come alone
                engine.add_event_handler(end, give_freed_memory_back)
            engine.add_event_handler(Events.EXCEPTION_RAISED, _give_back_and_raise)


def has_glibc() -> bool:
    """Return whether the C library is the one whose heap can be told."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


def keep_freed_memory() -> None:
    """Keep from now on what is freed, and let the heap grow in huge pages."""
    library = _glibc()
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)
    size = int(_SHARE_OF_MEMORY * memory_of_job())
    # Whole pages of the free end of the heap are marked; nothing is written, so nothing is used.
    start = library.malloc(size)
    if start is None:
        _log.debug("no address space for %d bytes of huge pages", size)
        return
    first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    end = (start + size) // _HUGE_PAGE * _HUGE_PAGE
    library.madvise(first, end - first, _MADVISE_HUGE_PAGES)
    library.free(start)


def give_freed_memory_back() -> None:
    """Return free memory to the system, and from now on large blocks as soon as they are freed."""
    library = _glibc()
    library.mallopt(_MMAP_MAX, _USUAL_NUMBER)
    library.mallopt(_MMAP_THRESHOLD, _USUAL_SIZE)
    library.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_SIZE)
    library.malloc_trim(0)


def _give_back_and_raise(_: Engine, error: BaseException) -> None:
    give_freed_memory_back()
    raise error  # which would otherwise end here


def _glibc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
