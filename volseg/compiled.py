"""Loops over voxels that no library offers, compiled to machine code on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return the function compiled by numba, without the interpreter's lock while it runs.

    The machine code is kept beside the source or in the user's cache folder, so that it is made
    once on a machine; where neither can be written it is made in each process. Threads are the
    caller's: numba's own pools do not survive the fork of a data loader's workers.
    """
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # there is no folder to keep it in
        return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """Return a part of compiled functions that becomes part of their code."""
    return cast(Function, numba.njit(inline="always", error_model="numpy")(function))
