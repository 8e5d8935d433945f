"""Options that say which values of label maps are which structure."""

from __future__ import annotations

from collections.abc import Sequence

from volseg.cli.lists import words
from volseg.errors import InputError


def named_regions(options: Sequence[str], *, option: str = "--region") -> dict[str, list[int]]:
    """Return label values by name of options such as ``tumour=1,2,3``.

    Raises:
        InputError: One cannot be read, or two have one name.
    """
    regions: dict[str, list[int]] = {}
    for text in options:
        name, _, values = (part.strip() for part in text.partition("="))
        numbers = words(values)
        if not name or not all(number.isdecimal() for number in numbers):
            raise InputError(
                f"{option} {text!r} cannot be read; expected NAME=VALUES, such as tumour=1,2,3."
            )
        if name in regions:
            raise InputError(f"{option} {name} is given twice: name each structure once.")
        regions[name] = [int(number) for number in numbers]
    return regions
