"""What is written down of an error that nobody expected."""

from __future__ import annotations

import traceback


def described(error: BaseException) -> str:
    """Return where an error happened and of what type it is.

    Its message is left out: it may quote what is in a header, or the name of a patient's file.
    """
    return f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
