"""Tables as JSON, a row a line."""

from __future__ import annotations

import json

from volseg.choosing.json_rows import json_by_rows


def test_each_row_has_a_line_and_nothing_is_lost():
    rows = [{"tile": [64, 64], "dice": 0.9}, {"tile": [96, 96], "dice": None}]
    entries = {"tolerance": 0.001, "rows": rows, "chosen": {"tile": [64, 64]}}
    text = json_by_rows(entries, "rows")
    assert json.loads(text) == entries
    assert [json.loads(line.strip(" ,")) for line in text.splitlines() if "dice" in line] == rows
