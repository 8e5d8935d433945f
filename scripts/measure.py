"""Measure what the README and the metadata of the bundles claim, and write it there.

    python scripts/measure.py --data ../shared/data

Shipped bundles are measured on the held-out fold of the data set they were trained on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from readme import header, row, when_and_where, write_section
from volseg.bundle import build_parts, open_bundle, shipped_bundles
from volseg.choosing import measure_bundle, record_measurement
from volseg.demonstration import run_demonstration
from volseg.networks import count_parameters

# Which data set a bundle was trained on, by the first word of its name.
DATA = {"hippocampus": "msd_hippocampus", "membrane": "isbi2012_em", "nuclei": "nuclei_dsb2018"}


def data_set(bundle: str) -> str | None:
    """Return the name of the data set a shipped bundle was trained on, if there is one."""
    return DATA.get(bundle.partition("_")[0])


def held_out_row(name: str, data: Path) -> str:
    """Measure a bundle on its held-out cases, into its metadata too; return its table row.

    Of a bundle that was trained on all cases, the figures of its folds are told.
    """
    bundle = open_bundle(name)
    if bundle.metadata["training"]["fold"] == "all":
        figures = {
            name.removesuffix("_out_of_fold").replace("_", " "): value
            for name, value in bundle.metadata["eval_metrics"].items()
        }
        found = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        found = f"trained on all cases; of its folds: {found}"
    else:
        evaluation = measure_bundle(name, data)
        bundle = record_measurement(name, data, evaluation)
        dice = ", ".join(
            f"{label} {statistics['dice'].mean:.4f}"
            for label, statistics in evaluation.summary().items()
        )
        found = f"{len(evaluation.cases)} held-out cases: {dice}"
    network = build_parts(bundle).network
    epochs = bundle.metadata["training"]["epochs"]
    size = f"{count_parameters(network) / 1e6:.2f} M"
    return row([f"`{name}`", size, str(epochs), found])


def demonstration_row() -> str:
    """A table row of the demonstration's Dice and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scores = run_demonstration(folder).scores
        seconds = time.perf_counter() - started
    dice = ", ".join(f"{score.name} {score.dice:.4f}" for score in scores)
    return row([f"demonstration (`make demo`, {seconds:.1f} s)", "", "", f"1 phantom: {dice}"])


def main() -> None:
    """Read the arguments, measure, and rewrite the README's section."""
    parser = argparse.ArgumentParser(description="Measure and write the README's table.")
    parser.add_argument(
        "--data", type=Path, required=True, help="holds msd_hippocampus/ and others"
    )
    arguments = parser.parse_args()
    trained_on = {name: data_set(name) for name in shipped_bundles()}
    lines = [
        *header(["bundle", "parameters", "epochs", "mean Dice"]),
        *(
            held_out_row(name, arguments.data / data)
            for name, data in trained_on.items()
            if data is not None
        ),
        demonstration_row(),
        "",
        f"On {when_and_where(torch.get_num_threads())}, by `python scripts/measure.py --data "
        "../shared/data`; held-out cases are fold 0 of each bundle's datalist, compared on the "
        "grid of the files.",
    ]
    print("\n".join(lines))
    write_section("measured", "scripts/measure.py", lines)


if __name__ == "__main__":
    main()
