"""Loops over voxels that no library offers, compiled to machine code on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from filelock import FileLock

Loop = Callable[..., Any]
_SIGN_BIT = np.uint32(0x80000000)


def compiled(function: Loop) -> Loop:
    """Return the function compiled by numba, without the interpreter's lock while it runs.

    The machine code is kept beside the source or in the user's cache folder, so that it is made
    once on a machine; where neither can be written it is made in each process. Threads are the
    caller's: numba's own pools do not survive the fork of a data loader's workers.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        loop: Loop = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder to keep it in
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    vars(loop)["_cache"] = _Locked(vars(loop)["_cache"])
    return loop


def inlined(function: Loop) -> Loop:
    """Return a part of compiled functions that becomes part of their code."""
    part: Loop = numba.njit(inline="always", error_model="numpy")(function)
    return part


@inlined
def ordered_bits(bits):  # type: ignore[no-untyped-def]
    """Return the bits of a float32 as an unsigned integer in the order of the floats; -0 is 0."""
    flipped = numba.uint32(numba.int32(bits) >> numba.int32(31)) | _SIGN_BIT
    return numba.uint32(numba.uint32(bits ^ flipped) + numba.uint32(bits == _SIGN_BIT))


class _Locked:
    """numba's cache of a function, used by one process at a time.

    Without a lock two processes that keep code for different types at once give both the same
    file: each may later run what was compiled for the types of the other, on its own memory. Where
    a lock cannot be had nothing is kept.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def load_overload(self, *arguments: Any) -> Any:
        try:
            with self._lock():
                return self._cache.load_overload(*arguments)
        except (OSError, NotImplementedError):
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            with self._lock():
                self._cache.save_overload(*arguments)
        except (OSError, NotImplementedError):
            return

    def _lock(self) -> FileLock:
        """Return the lock of the folder, of which each process has one that its holder may retake.

        Made when it is wanted: a forked process, such as a data loader's, must not use the lock of
        the one it comes from.
        """
        return FileLock(Path(self._cache.cache_path) / "volseg.lock", is_singleton=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)
