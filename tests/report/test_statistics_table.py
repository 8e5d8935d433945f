"""Tables of statistics, read back."""

from __future__ import annotations

import csv
import json

import numpy as np

from volseg.metrics import label_statistics
from volseg.report import write_statistics


def test_the_tables_can_be_read_back(tmp_path):
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[2:4, 3, 1:3] = 1
    image = np.arange(labels.size, dtype=np.float32).reshape(1, *labels.shape)
    names = {1: "one", 7: 'seven, "the" empty one'}
    rows = label_statistics(labels, np.diag([1, 2, 3, 1]), image=image, names=names)
    cases = {"a": rows, "b": rows[:1]}
    write_statistics(cases, tmp_path / "new" / "statistics.csv")
    with (tmp_path / "new" / "statistics.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [(entry["case"], entry["label"]) for entry in table] == [
        ("a", "1"),
        ("a", "7"),
        ("b", "1"),
    ]
    assert table[1]["name"] == names[7]
    assert table[1]["centroid_x_mm"] == table[1]["mean"] == ""
    assert float(table[0]["centroid_z_mm"]) == rows[0].centroid_mm[2]
    assert float(table[0]["high_y_mm"]) == 7
    assert [table[0][f"first_voxel_{axis}"] for axis in "xyz"] == ["2", "3", "1"]
    assert float(table[0]["percentile_95"]) == rows[0].intensities[0].percentiles[95]
    write_statistics(cases, tmp_path / "statistics.json")
    again = json.loads((tmp_path / "statistics.json").read_text(encoding="utf-8"))
    assert [{key: "" if v is None else str(v) for key, v in row.items()} for row in again] == table


def test_channels_have_columns_of_their_own_and_an_empty_table_a_header(tmp_path):
    labels = np.ones((2, 2, 2), np.uint8)
    image = np.stack([labels * 3, labels * 5])
    write_statistics({"a": label_statistics(labels, np.eye(4), image=image)}, tmp_path / "a.json")
    [row] = json.loads((tmp_path / "a.json").read_text())
    assert (row["mean_0"], row["mean_1"]) == (3, 5)
    write_statistics({}, tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text().startswith("case,label,name,voxels")
