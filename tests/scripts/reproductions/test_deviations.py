"""One rule at a time in place of ours, case by case."""

from __future__ import annotations

import pytest
import yaml

from reproductions.deviations import CLASSES, PLANNED, THEIRS, table
from reproductions.parts import Part
from volseg.cli.main import main
from volseg.training import read_run_record


@pytest.mark.slow  # two trainings
def test_a_rule_is_all_that_differs(unconverted_bundle, reproduction, tmp_path):
    data, output = unconverted_bundle.parent / "data", tmp_path / "runs"
    words = ["--bundle", unconverted_bundle, "--data", data, "--output", output, "--epochs", 1]
    rules = ["ours", "movement", "prediction"]
    reproduction.run("deviations", *words, "--rules", *rules, "--seeds", 0)
    theirs, ours, mirrored = reproduction.parts("deviations").read()
    assert (ours.settings["rule"], theirs.settings["rule"]) == ("ours", "movement")
    settings = [
        read_run_record(output / "deviations" / part.part / "runs" / "fold0")["settings"]
        for part in (ours, theirs)
    ]
    other = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert other == {"rotation", "scale", "moved"}
    # Mirrored tiles are seen by the network that is there.
    assert not (output / "deviations" / mirrored.part).exists()
    assert mirrored.figures["scores"] != ours.figures["scores"]
    assert mirrored.figures["steps"] == ours.figures["steps"]

    rows = {cells[0]: cells for cells in reproduction.table("deviations")}
    cells = rows[THEIRS["movement"].about]
    assert cells[1] == "1"
    for name, cell in zip(("anterior", "posterior"), cells[2:], strict=True):
        values = [part.figures["scores"][name]["dice"] for part in (ours, theirs)]
        gain = sum(values[0][case] - values[1][case] for case in values[0]) / len(values[0])
        assert float(cell.split(" ")[0]) == pytest.approx(gain, abs=1e-4)
    assert rows[THEIRS["heads"].about][1:] == ["0", "-", "-"]


def test_a_case_to_which_the_metric_does_not_apply_is_left_out():
    parts = [
        Part(
            part=rule,
            settings={"rule": rule, "seed": 0, "fold": 2},
            figures={"scores": {name: {"dice": values} for name in CLASSES}},
            date="2026-01-01",
            machine={"threads": 1, "processor": "A processor", "torch": "2"},
        )
        for rule, values in (("ours", {"a": 0.9, "b": 0.5}), ("movement", {"a": 0.8, "b": None}))
    ]
    lines = table(parts)
    [cells] = [line.split(" | ") for line in lines if THEIRS["movement"].about in line]
    assert all(cell.startswith("+0.1000") for cell in cells[2:])
    assert "case by case of fold 2" in "\n".join(lines)


def test_every_rule_of_training_changes_what_is_planned():
    for rule in THEIRS.values():
        changed = any(PLANNED.get(name) != value for name, value in rule.values.items())
        assert changed != bool(rule.inference)


@pytest.mark.data
def test_ours_is_what_is_planned_for_the_data(data_root, tmp_path):
    source, planned = data_root / "msd_hippocampus", tmp_path / "hippocampus"
    words = ["--labels", "anterior,posterior", "--modality", "MR"]
    with pytest.raises(SystemExit, match="0"):
        main(["plan", str(source), "-o", str(planned), *words])
    values = yaml.safe_load((planned / "configs" / "train.yaml").read_text())
    of_network = {"head_weights"}
    assert {name: values[name] for name in PLANNED.keys() - of_network} == {
        name: value for name, value in PLANNED.items() if name not in of_network
    }


def test_the_readme_says_of_each_difference_what_measures_it(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    rows = text.partition("| | nnU-Net 2 |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [row.strip("|").split("|")[-1].strip() for row in rows]
    measured = {cell.strip("`") for cell in cells if not cell.startswith("not: ")}
    assert measured == {*THEIRS, "label_offset"}  # which is a row of its own
