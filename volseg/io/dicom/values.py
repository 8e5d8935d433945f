"""Values of elements as pydicom gives them, without its objects for the plain ones."""

from __future__ import annotations

from functools import cache
from struct import calcsize, unpack
from typing import Any

_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"FL": "f", b"FD": "d"}
# Text without a character set of its own (PS3.5 6.1.2.2).
_PLAIN_TEXT = frozenset({b"AE", b"AS", b"CS", b"DA", b"DT", b"TM", b"UI"})
_OWN_CHARACTERS = frozenset({b"LO", b"SH"})


def plain_value(representation: bytes, stored: bytes) -> Any:
    """Return a number, a text or several of them; None if the value is empty.

    Args:
        representation: value representation, two letters.
        stored: bytes of the value, in little endian.

    Raises:
        ValueError: if it is no plain number or text, and pydicom has to be asked.
    """
    if not stored:
        return None
    if representation.endswith((b"OB", b"OW")):  # also where it is not known which one
        return stored
    letter = _NUMBERS.get(representation)
    if letter is not None:
        count, rest = divmod(len(stored), calcsize(f"<{letter}"))
        if rest:
            raise ValueError(f"{len(stored)} bytes")
        return _one_or_several(unpack(f"<{count}{letter}", stored))
    if representation in _OWN_CHARACTERS and needs_character_set(stored):
        raise ValueError("text in a character set")
    text = stored.decode("latin-1")
    if representation == b"DS":
        return _one_or_several([float(part) for part in _parts(text.strip())])
    if representation == b"IS":
        return _one_or_several([int(part) for part in _parts(text)])
    if representation in _OWN_CHARACTERS:
        return _one_or_several([part.rstrip(" \0") for part in text.split("\\")])
    if representation in _PLAIN_TEXT:
        return _one_or_several(_parts(text))
    raise ValueError(f"a value of type {representation!r}")


def needs_character_set(stored: bytes) -> bool:
    """Return whether text has other characters than those of ASCII (PS3.5 6.1)."""
    return b"\x1b" in stored or not stored.isascii()


def _parts(text: str) -> list[str]:
    return text.rstrip(" \0").split("\\")


def _one_or_several(values: Any) -> Any:
    return values[0] if len(values) == 1 else list(values)


@cache
def representation_of(tag: int, creator: str = "") -> bytes:
    """Return the value representation of an element that does not state it; "UN" if unknown.

    Args:
        tag: group and element.
        creator: of a private element.
    """
    from pydicom.datadict import dictionary_VR, private_dictionary_VR  # noqa: PLC0415

    try:
        found = private_dictionary_VR(tag, creator) if creator else dictionary_VR(tag)
    except KeyError:
        return b"UN"
    return str(found).encode()
