"""Measure what the README claims and write it there, between its two markers.

    python scripts/measure.py --data ../shared/data

Every row names the command that measures it alone.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from volseg.atomic import replacing
from volseg.demonstration import run_demonstration
from volseg.evaluation import Evaluation
from volseg.training import measure_bundle

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- measured: begin (written by scripts/measure.py) -->", "<!-- measured: end -->"


def held_out_row(name: str, evaluation: Evaluation, command: str) -> str:
    """A table row of mean Dice a class over the held-out cases."""
    summary = evaluation.summary()
    dice = ", ".join(f"{label} {table['dice'].mean:.4f}" for label, table in summary.items())
    cases = len({row.case for row in evaluation.rows})
    return f"| `{name}`, {cases} held-out cases, mean Dice | {dice} | `{command}` |"


def demonstration_row() -> str:
    """A table row of the demonstration's Dice and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scores = run_demonstration(folder).scores
        seconds = time.perf_counter() - started
    dice = ", ".join(f"{score.name} {score.dice:.4f}" for score in scores)
    return f"| demonstration, Dice; {seconds:.1f} s | {dice} | `make demo` |"


def main() -> None:
    """Read the arguments, measure, and rewrite the README's section."""
    parser = argparse.ArgumentParser(description="Measure and write the README's table.")
    parser.add_argument("--data", type=Path, required=True, help="holds msd_hippocampus/")
    arguments = parser.parse_args()
    hippocampus = measure_bundle("hippocampus_unet", arguments.data / "msd_hippocampus")
    lines = [
        "| what | measured | again with |",
        "|---|---|---|",
        held_out_row(
            "hippocampus_unet", hippocampus, "python scripts/measure.py --data ../shared/data"
        ),
        demonstration_row(),
        "",
        f"On {datetime.now(UTC):%Y-%m-%d}, {torch.get_num_threads()} threads of {processor()}, "
        f"torch {torch.__version__}. Held-out cases are fold 0 of the bundle's datalist, compared "
        "on the grid of the files.",
    ]
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    with replacing(README) as temporary:
        table = "\n".join(lines)
        temporary.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    print("\n".join(lines))


def processor() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
