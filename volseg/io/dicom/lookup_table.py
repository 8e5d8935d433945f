"""Modality lookup tables: true values of stored ones that no slope and intercept gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.io.dicom.header import Header


@dataclass(frozen=True)
class LookupTable:
    """A table of true values (PS3.3 C.11.1).

    Attributes:
        first: stored value that has the first entry, as all below it.
        entries: true values as unsigned numbers of 16 bits, in the byte order of the machine; the
            last one is also that of all stored values above.
    """

    first: int
    entries: bytes

    def apply(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the true values of an array of stored ones."""
        entries = np.frombuffer(self.entries, np.uint16).astype(np.int64)
        places = stored.astype(np.int64) - self.first
        return entries[np.clip(places, 0, len(entries) - 1)]


def lookup_table(header: Header, *, is_signed: bool, is_big_endian: bool) -> LookupTable | None:
    """Return the table of an image, None if it has none.

    Args:
        header: of the file.
        is_signed: whether stored values are.
        is_big_endian: whether the file is.

    Raises:
        ValueError: if there is one that is damaged,
        TypeError: or lacks its description.
    """
    items = header.get("ModalityLUTSequence")
    if not items:
        return None
    count, first, _ = (int(number) for number in items[0].get("LUTDescriptor"))
    count = count % (1 << 16) or 1 << 16  # for which 16 bits have no number but 0
    first %= 1 << 16
    if is_signed and first >= 1 << 15:
        first -= 1 << 16
    entries = _entries(items[0].get("LUTData"), count, is_big_endian=is_big_endian)
    return LookupTable(first, entries.astype(np.uint16).tobytes())


def _entries(stored: Any, count: int, *, is_big_endian: bool) -> npt.NDArray[Any]:
    if isinstance(stored, bytes):
        if len(stored) in (count, count + count % 2):  # 8 bits each, to a whole number of words
            return np.frombuffer(stored, np.uint8)[:count]
        entries = np.frombuffer(stored[: len(stored) // 2 * 2], ">u2" if is_big_endian else "<u2")
    else:
        entries = np.atleast_1d(np.array(stored if stored is not None else []))
    if len(entries) != count:
        raise ValueError(f"a modality lookup table of {len(entries)} entries, {count} expected")
    return entries
