"""How patches are moved is all that differs; what is lost is compared slice by slice."""

from __future__ import annotations

import pytest

from reproductions.label_offset import ARMS
from volseg.training import read_run_record


@pytest.mark.slow  # two trainings
def test_how_patches_are_moved_is_all_that_differs(tiny_pictures, reproduction, tmp_path):
    bundle = tiny_pictures("tiny_em", "electron_microscopy", "membrane", stored_classes=[1, 0])
    words = ["--bundle", bundle, "--data", tmp_path / "data", "--output", tmp_path / "runs"]
    reproduction.run("label_offset", *words, "--fold", 1, "--arms", "ours", "still")
    ours, still = reproduction.parts("label_offset").read()
    settings = [
        read_run_record(tmp_path / "runs" / "label_offset" / part.part / "runs" / "fold1")[
            "settings"
        ]
        for part in (ours, still)
    ]
    other = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert other == {"mirror_axes"}

    rows = {cells[0]: cells for cells in reproduction.table("label_offset")}
    values = [part.figures["scores"]["membrane"]["accuracy"] for part in (ours, still)]
    behind = sum(values[0][case] - values[1][case] for case in values[0]) / len(values[0])
    cells = rows[ARMS["still"].about]
    assert float(cells[-1].split(" ")[0]) == pytest.approx(behind, abs=1e-4)
    assert rows[ARMS["ours"].about][1] == "1"
    assert rows[ARMS["ours"].about][-1] == "-"
    assert rows[ARMS["blurred"].about][1:] == ["0", "-", "-", "-"]
