"""Loops over voxels that no library offers, compiled to machine code on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

Loop = Callable[..., Any]


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
        loop = numba.njit(**options)(function)
    return loop


def inlined(function: Loop) -> Loop:
    """Return a part of compiled functions that becomes part of their code."""
    part: Loop = numba.njit(inline="always", error_model="numpy")(function)
    return part
