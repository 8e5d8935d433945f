"""JSON files that people read: a row of a table stands on a line of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def json_by_rows(entries: Mapping[str, Any], rows: str) -> str:
    """Return entries as the text of a JSON file, those under one name last and one a line.

    Args:
        entries: What the file holds, beside the rows something else.
        rows: Name of the list of rows among them.
    """
    head = {name: value for name, value in entries.items() if name != rows}
    text = json.dumps(head, indent=2, allow_nan=False).removesuffix("\n}")
    lines = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in entries[rows])
    return f'{text},\n  "{rows}": [\n{lines}\n  ]\n}}\n'
