"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from volseg.errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AMOUNT = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)(?P<binary>I?)B?", re.IGNORECASE)


def bytes_of(amount: int | str) -> int:
    """Return an amount of memory such as ``4GB``, ``512MiB`` or a number of bytes.

    Raises:
        InputError: It is no amount of memory.
    """
    found = _AMOUNT.fullmatch(str(amount).strip())
    if found is None or float(found["number"]) <= 0:
        raise InputError(
            f"{amount!r} is no amount of memory: expected a number with a unit, such as 4GB."
        )
    units = _BINARY if found["binary"] else _UNITS
    return int(float(found["number"]) * units[found["unit"].upper()])
