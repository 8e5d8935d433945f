"""Options that hold several words or numbers, with commas between them."""

from __future__ import annotations

from typing import TypeVar

from volseg.errors import InputError

_Number = TypeVar("_Number", int, float)


def words(text: str) -> list[str]:
    """Return the words of an option; spaces around them are none of theirs."""
    return [word.strip() for word in text.split(",")]


def numbers(option: str, text: str, kind: type[_Number], *, example: str) -> list[_Number]:
    """Return the numbers of an option.

    Args:
        option: Its name, for messages.
        text: What it was given.
        kind: What the numbers are.
        example: What it could be given.

    Raises:
        InputError: A word is no such number.
    """
    try:
        return [kind(word) for word in words(text)]
    except ValueError as error:
        raise InputError(
            f"{option} {text!r} cannot be read: expected numbers with commas between them, such "
            f"as {example}."
        ) from error
