"""Measure what the README and the metadata of the bundles claim, and write it there.

    python scripts/measure.py --data ../shared/data

Shipped bundles are measured on the held-out fold of the data set they were trained on.
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
from volseg.bundle import build_parts, open_bundle, shipped_bundles
from volseg.demonstration import run_demonstration
from volseg.networks import count_parameters
from volseg.training import measure_bundle, record_measurement

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- measured: begin (written by scripts/measure.py) -->", "<!-- measured: end -->"


# Which data set a bundle was trained on, by the first word of its name.
DATA = {"hippocampus": "msd_hippocampus", "membrane": "isbi2012_em", "nuclei": "nuclei_dsb2018"}


def held_out_row(name: str, data: Path) -> str:
    """Measure a bundle on its held-out cases, into its metadata too; return its table row."""
    evaluation = measure_bundle(name, data)
    record_measurement(name, data, evaluation)
    dice = ", ".join(
        f"{label} {statistics['dice'].mean:.4f}"
        for label, statistics in evaluation.summary().items()
    )
    cases = len({row.case for row in evaluation.rows})
    bundle = open_bundle(name)
    network = build_parts(bundle).network
    epochs = bundle.metadata["training"]["epochs"]
    size = f"{count_parameters(network) / 1e6:.2f} M"
    return f"| `{name}` | {size} | {epochs} | {cases} held-out cases: {dice} |"


def demonstration_row() -> str:
    """A table row of the demonstration's Dice and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scores = run_demonstration(folder).scores
        seconds = time.perf_counter() - started
    dice = ", ".join(f"{score.name} {score.dice:.4f}" for score in scores)
    return f"| demonstration (`make demo`, {seconds:.1f} s) | | | 1 phantom: {dice} |"


def main() -> None:
    """Read the arguments, measure, and rewrite the README's section."""
    parser = argparse.ArgumentParser(description="Measure and write the README's table.")
    parser.add_argument(
        "--data", type=Path, required=True, help="holds msd_hippocampus/ and others"
    )
    arguments = parser.parse_args()
    trained_on = {name: DATA.get(name.partition("_")[0]) for name in shipped_bundles()}
    lines = [
        "| bundle | parameters | epochs | mean Dice |",
        "|---|---|---|---|",
        *(
            held_out_row(name, arguments.data / data)
            for name, data in trained_on.items()
            if data is not None
        ),
        demonstration_row(),
        "",
        f"On {datetime.now(UTC):%Y-%m-%d}, {torch.get_num_threads()} threads of {processor()}, "
        f"torch {torch.__version__}, by `python scripts/measure.py --data ../shared/data`; "
        "held-out cases are fold 0 of each bundle's datalist, compared on the grid of the files.",
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
