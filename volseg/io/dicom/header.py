"""Headers: what is asked of the data set of a file, or of an item of its sequences.

Values are converted once for all files that hold the same bytes: the slices of a series differ in
a handful.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, Protocol

from volseg.io.dicom.elements import Elements, UnusualEncoding, find_items
from volseg.io.dicom.values import needs_character_set, plain_value, representation_of

# Values by tag and stored bytes.
KnownValues = dict[tuple[Any, ...], Any]

_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103


class Header(Protocol):
    """Elements by their names."""

    def get(self, name: str) -> Any:
        """Return the value of an element, None if there is none; headers of a sequence's items.

        Raises:
            ValueError: if it is not of its type.
        """
        ...

    def private(self, group: int, number: int, creator: str) -> Any:
        """Return the value of a private element, None if there is none.

        Args:
            group: odd number.
            number: of the element in the block of its creator, 0 to 0xFF.
            creator: who reserved the block.
        """
        ...

    def __contains__(self, name: str) -> bool:
        """Whether the element is there, if only empty."""
        ...


class FoundHeader:
    """Elements that were found in the bytes of a file.

    Args:
        data: bytes of the file.
        elements: where they lie in these.
        known: values of other files; those of this one are added.
    """

    def __init__(self, data: bytes, elements: Elements, known: KnownValues) -> None:
        self._data = data
        self._elements = elements
        self._known = known

    def __contains__(self, name: str) -> bool:
        return _tag(name) in self._elements

    def get(self, name: str) -> Any:
        """Return a value, None if there is none."""
        tag = _tag(name)
        return self._value(tag) if tag in self._elements else None

    def private(self, group: int, number: int, creator: str) -> Any:
        """Return the value of a private element, None if there is none."""
        block = self._creators.get((group, creator))
        if block is None:
            return None
        return self._value(group << 16 | block << 8 | number, creator)

    @cached_property
    def _creators(self) -> dict[tuple[int, Any], int]:
        """Blocks of private elements, by group and creator (PS3.5 7.8.1)."""
        tags = [tag for tag in self._elements if _is_creator(tag)]
        return {(tag >> 16, self._value(tag)): tag & 0xFF for tag in reversed(tags)}

    def _value(self, tag: int, creator: str = "") -> Any:
        place = self._elements.get(tag)
        if place is None:
            return None
        if isinstance(place, list):
            return [self._item(elements) for elements in place]
        stated, start, length = place
        if stated is not None and stated != b"UN":
            representation = stated
        else:
            representation = b"LO" if _is_creator(tag) else representation_of(tag, creator)
        if representation == b"SQ":
            # Within a sequence of unknown type nothing is stated either (PS3.5 6.2.2).
            return self._sequence(tag, start, length, implicit=stated != b"SQ")
        stored = self._data[start : start + length]
        key = (tag, representation, stored)
        if key not in self._known:
            try:
                self._known[key] = plain_value(representation, stored)
            except ValueError:  # it may depend on other elements, so it is not that of other files
                return self._by_pydicom(tag, representation)
        return self._known[key]

    def _sequence(self, tag: int, start: int, length: int, *, implicit: bool) -> Any:
        try:
            items = find_items(self._data, start, start + length, implicit=implicit)
        except UnusualEncoding:
            return self._by_pydicom(tag, b"SQ")
        return [self._item(elements) for elements in items]

    def _item(self, elements: Elements) -> FoundHeader:
        return FoundHeader(self._data, elements, self._known)

    def _by_pydicom(self, tag: int, representation: bytes) -> Any:
        """Return a value with the two elements beside it that may say how it is to be read."""
        from pydicom.dataelem import RawDataElement  # noqa: PLC0415 - an optional package
        from pydicom.dataset import Dataset  # noqa: PLC0415
        from pydicom.tag import BaseTag  # noqa: PLC0415

        raw = {}
        for number in (_CHARACTER_SET, _PIXEL_REPRESENTATION, tag):
            place = self._elements.get(number)
            if isinstance(place, tuple):
                stated, start, length = place
                name = (
                    representation if number == tag else stated or representation_of(number)
                ).decode()
                stored = self._data[start : start + length]
                raw[BaseTag(number)] = RawDataElement(
                    BaseTag(number), name, length, stored, start, stated is None, True
                )
        return _value_in(Dataset(raw), tag)


class PydicomHeader:
    """The elements of a pydicom data set whose values nobody has asked for yet.

    Args:
        dataset: data set, or item of a sequence.
        known: values of other files; those of this one are added.
    """

    def __init__(self, dataset: Any, known: KnownValues) -> None:
        self._dataset = dataset
        self._known = known

    def __contains__(self, name: str) -> bool:
        return name in self._dataset

    def get(self, name: str) -> Any:
        """Return a value, None if there is none."""
        tag = _tag(name)
        element = self._dataset.get_item(tag)
        if element is None:
            return None
        stored = element.value
        if not isinstance(stored, bytes) or needs_character_set(stored):
            return _value_in(self._dataset, tag)  # also of sequences, and what is converted already
        key = (tag, element.VR, element.is_little_endian, stored)
        if key not in self._known:
            self._known[key] = _value_in(self._dataset, tag)
        return self._known[key]

    def private(self, group: int, number: int, creator: str) -> Any:
        """Return the value of a private element, None if there is none."""
        try:
            tag = self._dataset.private_block(group, creator).get_tag(number)
        except KeyError:
            return None
        return _value_in(self._dataset, tag) if tag in self._dataset else None


def _value_in(dataset: Any, tag: int) -> Any:
    """Return a value of a pydicom data set."""
    try:
        return dataset[tag].value
    except Exception as error:
        # pydicom raises many types.
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise ValueError(f"{name} cannot be read: {' '.join(str(error).split())}") from error


def _is_creator(tag: int) -> bool:
    return bool(tag & 0x10000) and 0x10 <= tag & 0xFFFF <= 0xFF


@cache
def _tag(name: str) -> int:
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415 - an optional package

    tag: int | None = tag_for_keyword(name)
    assert tag is not None  # of a name that is written in the code
    return tag
