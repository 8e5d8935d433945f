"""Whose fault an error is, and what is written down of one that nobody expected."""

from __future__ import annotations

import errno
import traceback

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def is_of_the_disk(error: BaseException | None) -> bool:
    """Return whether the disk is full or broken, of which no request and no job is the cause."""
    return getattr(error, "errno", None) in _OF_THE_DISK


def described(error: BaseException) -> str:
    """Return where an error and what caused it happened, and of what types they are.

    Messages are left out: they may quote what is in a header, or the name of a patient's file.
    """
    texts = []
    found: BaseException | None = error
    while found is not None:
        texts.append(f"{''.join(traceback.format_tb(found.__traceback__))}{type(found).__name__}")
        found = found.__cause__
    return "\ncaused by\n".join(texts)
