"""Scripts write into the README between their markers, and only there."""

from __future__ import annotations

import shutil

import pytest

from readme import header, row, write_section

SECTIONS = {
    "networks": "scripts/benchmark.py networks",
    "transforms": "scripts/benchmark.py transforms",
    "measured": "scripts/measure.py",
    **{
        row: f"scripts/reproduce.py {row}"
        for row in (
            "hippocampus",
            "budgets",
            "membranes",
            "label_offset",
            "nuclei",
            "data_efficiency",
            "deviations",
        )
    },
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_replaced_and_nothing_else(section, repository, tmp_path):
    copy = tmp_path / "README.md"
    shutil.copyfile(repository / "README.md", copy)
    lines = [*header(["a", "b"]), row(["1", "2"])]
    write_section(section, SECTIONS[section], lines, readme=copy)
    before = (repository / "README.md").read_text(encoding="utf-8")
    after = copy.read_text(encoding="utf-8")
    assert "| a | b |\n|---|---|\n| 1 | 2 |" in after
    end = f"<!-- {section}: end -->"
    assert after.split(end)[1] == before.split(end)[1]
    begin = f"<!-- {section}: begin"
    assert after.split(begin)[0] == before.split(begin)[0]
    # Written once more, nothing is added.
    write_section(section, SECTIONS[section], lines, readme=copy)
    assert copy.read_text(encoding="utf-8") == after


def test_a_file_without_the_markers_is_left_alone(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("<!-- networks: end -->\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="networks: begin"):
        write_section("networks", SECTIONS["networks"], ["new"], readme=file)
    assert file.read_text(encoding="utf-8") == "<!-- networks: end -->\n"
