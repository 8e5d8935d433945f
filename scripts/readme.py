"""Tables in README.md that are written by scripts, each between two markers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from volseg.atomic import write_text
from volseg.training.machine import processor_name

README = Path(__file__).resolve().parent.parent / "README.md"


def write_section(
    section: str, command: str, lines: Sequence[str], *, readme: Path = README
) -> None:
    """Replace what stands between the markers of a section.

    Args:
        section: The name in both markers.
        command: What writes it, as `scripts/benchmark.py networks`; it stands in the first marker.
        lines: What the section holds from now on.
        readme: The file.
    """
    begin = f"<!-- {section}: begin (written by {command}) -->"
    end = f"<!-- {section}: end -->"
    text = readme.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(
            f"{readme} needs these two lines once each, in this order:\n{begin}\n{end}"
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    table = "\n".join(lines)
    write_text(readme, f"{before}{begin}\n{table}\n{end}{after}")


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def header(names: Sequence[str]) -> list[str]:
    """Return the first two lines of a table."""
    return [row(names), f"|{'---|' * len(names)}"]


def when_and_where(threads: int | str) -> str:
    """Return the date, the machine and torch's version, for the line under a table."""
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"{date}, {threads} thread(s) of {processor_name()}, torch {torch.__version__}"
