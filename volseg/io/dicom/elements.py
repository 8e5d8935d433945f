"""Elements: where the values of a data set lie in its bytes (PS3.5 7).

pydicom makes objects of every element, of which reading a series asks for a few; here elements are
found and left alone. Only what is written by the rules, in little endian, is found: all else is
`UnusualEncoding`, and left to pydicom.
"""

from __future__ import annotations

import struct
from struct import Struct

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # as float, double or whole numbers

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_EXPLICIT = Struct("<HH2sH").unpack_from
_IMPLICIT = Struct("<HHL").unpack_from
_LENGTH = Struct("<L").unpack_from
_SHORT_VR = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(),
)
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_DEEPEST = 16  # sequences within one another; scanners write five

# Value representation (None in implicit encoding), first byte and length of a value; or the items
# of a sequence of undefined length, whose end is only known once they are found.
Elements = dict[int, "tuple[bytes | None, int, int] | list[Elements]"]


class UnusualEncoding(Exception):  # noqa: N818 - no error: another reader is asked
    """Bytes are not what the rules expect."""


class EndsEarly(UnusualEncoding):
    """Bytes end within an element: there may be more of them."""


def find_elements(
    data: bytes, start: int, end: int, *, implicit: bool, depth: int = 0
) -> tuple[Elements, int]:
    """Return the elements of a data set by tag, and where they end.

    That is at the first element of pixels, at the mark that ends an item, or at the given place.

    Args:
        data: bytes with the data set in it.
        start: its first byte.
        end: where it ends if no mark comes before.
        implicit: whether elements do not state their value representation.
        depth: in how many sequences it lies.

    Raises:
        UnusualEncoding: if the bytes are no such elements, or end too early.
    """
    found: Elements = {}
    try:
        while start < end:
            tag, representation, value, length = _head(data, start, implicit)
            if tag == _ITEM_END if depth else tag in PIXELS:
                break
            if length == UNDEFINED_LENGTH:
                if representation not in (None, b"SQ", b"UN"):
                    raise UnusualEncoding
                # An unknown value of undefined length is a sequence in implicit encoding (6.2.2).
                found[tag], start = _items(
                    data, value, end, implicit=representation != b"SQ", depth=depth, is_open=True
                )
                continue
            found[tag] = (representation, value, length)
            start = value + length
    except struct.error as error:
        raise EndsEarly from error
    if start > end:
        raise EndsEarly
    return found, start


def find_items(data: bytes, start: int, end: int, *, implicit: bool) -> list[Elements]:
    """Return the items of a sequence of known length.

    Raises:
        UnusualEncoding: if the bytes are no such items.
    """
    try:
        return _items(data, start, end, implicit=implicit, depth=0, is_open=False)[0]
    except struct.error as error:
        raise EndsEarly from error


def element_at(data: bytes, start: int, *, implicit: bool) -> tuple[int, bytes | None, int, int]:
    """Return tag, value representation, first byte and length of the value of an element.

    Raises:
        UnusualEncoding: if there is none.
    """
    try:
        return _head(data, start, implicit)
    except struct.error as error:
        raise EndsEarly from error


def _head(data: bytes, start: int, implicit: bool) -> tuple[int, bytes | None, int, int]:
    if implicit:
        group, element, length = _IMPLICIT(data, start)
        return group << 16 | element, None, start + 8, length
    group, element, representation, length = _EXPLICIT(data, start)
    if representation in _SHORT_VR:
        return group << 16 | element, representation, start + 8, length
    if representation in _LONG_VR:
        return group << 16 | element, representation, start + 12, _LENGTH(data, start + 8)[0]
    if group == 0xFFFE:
        return group << 16 | element, None, start + 8, _LENGTH(data, start + 4)[0]
    raise UnusualEncoding


def _items(
    data: bytes, start: int, end: int, *, implicit: bool, depth: int, is_open: bool
) -> tuple[list[Elements], int]:
    """Return the items of a sequence, and where it ends."""
    if depth > _DEEPEST:
        raise UnusualEncoding
    items: list[Elements] = []
    while start < end:
        group, element, length = _IMPLICIT(data, start)
        tag, start = group << 16 | element, start + 8
        if is_open and tag == _SEQUENCE_END:
            return items, start
        has_mark = length == UNDEFINED_LENGTH
        stop = end if has_mark else start + length
        if tag != _ITEM:
            raise UnusualEncoding
        if stop > end:
            raise EndsEarly
        item, reached = find_elements(data, start, stop, implicit=implicit, depth=depth + 1)
        if has_mark != (reached < stop):  # the mark is where elements end before
            raise EndsEarly if has_mark else UnusualEncoding
        items.append(item)
        start = reached + 8 if has_mark else stop
    if is_open:
        raise EndsEarly
    return items, start
