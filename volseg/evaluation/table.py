"""Reading of CSV tables that name cases."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from volseg.errors import InputError


def read_table(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has these columns, without spaces around values.

    Raises:
        InputError: It cannot be read, has no row, or lacks a column or a value in one.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table ({error}).") from error
    for number, row in enumerate(rows, start=2):
        for column in columns:
            if not (row.get(column) or "").strip():
                raise InputError(
                    f"{path} has no {column!r} in line {number}; expected the columns "
                    f"{', '.join(columns)} with a value in each row."
                )
    if not rows:
        raise InputError(f"{path} has no row; expected the columns {', '.join(columns)}.")
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in rows]
