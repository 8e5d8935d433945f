"""Values as ``NAME=VALUE``, as several commands take them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any


def named_values(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``NAME=VALUE`` words by name, the value read as YAML.

    Raises:
        InputError: A word cannot be read, or a name is given twice.
    """
    from volseg.errors import InputError

    values: dict[str, Any] = {}
    for word in words:
        name, value = _named_value(word)
        if name in values:
            raise InputError(f"--set gives {name} twice: give it once.")
        values[name] = value
    return values


def _named_value(word: str) -> tuple[str, Any]:
    import yaml

    from volseg.errors import InputError

    name, equals, text = word.partition("=")
    try:
        if not (name.strip() and equals):
            raise ValueError("no name or no '='")
        value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"--set {word!r} cannot be read: expected NAME=VALUE with a YAML value, such as "
            '"patch=[64, 64, 64]".'
        ) from error
    if isinstance(value, str):  # YAML takes 1e-3 for a word
        with contextlib.suppress(ValueError):
            value = float(value)
    return name.strip(), value
