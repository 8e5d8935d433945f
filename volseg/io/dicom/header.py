"""The header of a file, read in a folder of many that are nearly the same."""

from __future__ import annotations

from functools import cache
from typing import Any

# Values by tag and stored bytes.
KnownValues = dict[tuple[Any, ...], Any]


class Header:
    """The elements of a pydicom data set, each converted once for all files that hold the same.

    Converting a value takes pydicom many times as long as reading it, and the slices of a series
    differ in a handful.

    Args:
        dataset: data set whose values nobody has asked for yet.
        known: values of other files; those of this one are added.
    """

    def __init__(self, dataset: Any, known: KnownValues) -> None:
        self.dataset = dataset
        self._known = known

    def get(self, name: str) -> Any:
        """Return the value of an element, None if the file does not have it.

        Args:
            name: keyword of an element whose text, if it is one, is ASCII in any character set.
        """
        tag = _tag(name)
        element = self.dataset.get_item(tag)
        if element is None:
            return None
        stored = element.value
        if not isinstance(stored, bytes):  # a sequence, or converted already
            return self.dataset.get(name)
        key = (tag, element.VR, element.is_little_endian, stored)
        if key not in self._known:
            self._known[key] = self.dataset.get(name)
        return self._known[key]


@cache
def _tag(name: str) -> Any:
    from pydicom.tag import Tag  # noqa: PLC0415 - an optional package

    return Tag(name)
