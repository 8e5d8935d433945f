"""What is written down of an error that nobody expected."""

from __future__ import annotations

import traceback


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
