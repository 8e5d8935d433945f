"""What is said to the user when something cannot be done."""

from __future__ import annotations


class VolSegError(Exception):
    """One sentence: what is wrong and what to do."""
