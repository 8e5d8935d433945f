"""How well readers agree: two or more folders of label maps of the same cases.

    python scripts/inter_reader_agreement.py reader_a/ reader_b/ reader_c/ -o agreement/ \
        --labels anterior=1,posterior=2

For each pair of readers and each structure: Dice, surface Dice, 95th percentile of the Hausdorff
distance and difference of volumes in every case (``cases.csv``) and over them (``pairs.csv``), with
bias and limits of agreement (Bland and Altman) and a plot of them. Over all readers: the intraclass
correlation ICC(2,1) of volumes, for absolute agreement (``correlation.csv``).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from research_tables import argument_parser, named_labels, plotting, save_plot, write_table
from volseg.errors import InputError, VolsegError
from volseg.evaluation import (
    Evaluation,
    evaluate_files,
    intraclass_correlation,
    limits_of_agreement,
)
from volseg.io.folders import with_a_name

# Volume in mL by structure, reader and case.
Volumes = dict[str, dict[str, dict[str, float]]]
_SCORES = ("dice", "surface_dice", "hausdorff95_mm")


def main() -> None:
    """Read the arguments and write the tables and the plot."""
    parser = argument_parser(__doc__)
    parser.add_argument("readers", type=Path, nargs="+", help="two or more folders of label maps")
    parser.add_argument("--labels", required=True, help="structures: liver=1,spleen=2")
    parser.add_argument(
        "--tolerance", type=float, default=1.0, help="of the surface Dice, in mm (default: 1)"
    )
    arguments = parser.parse_args()
    try:
        labels = named_labels(arguments.labels)
        readers = named_readers(arguments.readers)
        compared = compare(readers, labels, arguments.tolerance)
        volumes = volumes_of(compared)
        rows = list(pair_rows(compared, volumes))
        write_table(arguments.output / "cases.csv", case_rows(compared))
        write_table(arguments.output / "pairs.csv", rows)
        write_table(arguments.output / "correlation.csv", correlation_rows(volumes))
        save_plot(plot(compared, volumes), arguments.output / "bland_altman.png")
    except VolsegError as error:
        sys.exit(str(error))
    for row in rows:
        sys.stdout.write(
            f"{row['first']} and {row['second']}, {row['structure']}: Dice {row['dice']:.3f}, bias "
            f"{row['bias_ml']:+.3f} mL, limits {row['lower_ml']:+.3f} to {row['upper_ml']:+.3f}\n"
        )
    sys.stdout.write(f"written: {arguments.output}\n")


def named_readers(folders: list[Path]) -> dict[str, Path]:
    """Return the folders of the readers by name.

    Raises:
        InputError: There is one alone, or two are called alike.
    """
    readers = {with_a_name(folder).name: folder for folder in folders}
    if len(folders) < 2 or len(readers) < len(folders):
        raise InputError("agreement is between two or more folders, each of a name of its own.")
    return readers


def compare(
    readers: Mapping[str, Path], labels: Mapping[str, int], tolerance: float
) -> dict[tuple[str, str], Evaluation]:
    """Return the scores of each pair of readers.

    Raises:
        InputError: The folders do not hold the same cases, or one cannot be compared.
    """
    found: dict[tuple[str, str], Evaluation] = {}
    with Progress(console=Console(stderr=True)) as bar:
        for first, second in combinations(readers, 2):
            task = bar.add_task(f"{first} and {second}", total=None)

            def show(done: int, total: int, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            # The second reader's map against the first's: differences are second minus first.
            scores = evaluate_files(
                readers[second],
                readers[first],
                labels=labels,
                surface_tolerance_mm=tolerance,
                progress=show,
            )
            for case, reason in scores.failures.items():
                raise InputError(f"the case {case} of {first} and {second}: {reason}")
            for row in scores.rows:
                if math.isnan(row.reference_ml):
                    raise InputError(
                        f"the case {row.case} of {first} and {second} is a picture, which has no "
                        "volume: give volumes."
                    )
            found[first, second] = scores
    return found


def volumes_of(compared: Mapping[tuple[str, str], Evaluation]) -> Volumes:
    """Return the volumes of all structures; the folders hold the same cases."""
    found: Volumes = {}
    for (first, second), scores in compared.items():
        for row in scores.rows:
            readers = found.setdefault(row.name, {})
            readers.setdefault(first, {})[row.case] = row.reference_ml
            readers.setdefault(second, {})[row.case] = row.prediction_ml
    return found


def case_rows(compared: Mapping[tuple[str, str], Evaluation]) -> Iterable[dict[str, Any]]:
    """Yield a row for each pair of readers, case and structure."""
    for (first, second), scores in compared.items():
        for row in scores.rows:
            entry = dataclasses.asdict(row)
            yield {
                "first": first,
                "second": second,
                "case": row.case,
                "structure": row.name,
                **{name: entry[name] for name in _SCORES},
                "volume_difference_ml": row.volume_error_ml,
            }


def pair_rows(
    compared: Mapping[tuple[str, str], Evaluation], volumes: Volumes
) -> Iterable[dict[str, Any]]:
    """Yield a row for each pair of readers and structure."""
    for (first, second), scores in compared.items():
        for structure, statistics in scores.summary().items():
            a, b = volumes[structure][first], volumes[structure][second]
            limits = limits_of_agreement(list(a.values()), [b[case] for case in a])
            yield {
                "first": first,
                "second": second,
                "structure": structure,
                "cases": limits.subjects,
                **{name: statistics[name].mean for name in _SCORES},
                "bias_ml": limits.bias,
                "bias_low_ml": limits.bias_interval.low,
                "bias_high_ml": limits.bias_interval.high,
                "lower_ml": limits.lower,
                "upper_ml": limits.upper,
            }


def correlation_rows(volumes: Volumes) -> Iterable[dict[str, Any]]:
    """Yield a row for each structure."""
    for structure, by_reader in volumes.items():
        cases = list(next(iter(by_reader.values())))
        table = np.array([[values[case] for values in by_reader.values()] for case in cases])
        found = intraclass_correlation(table)
        yield {
            "structure": structure,
            "cases": found.subjects,
            "readers": found.readers,
            "icc_2_1": found.value,
            "low": found.interval.low,
            "high": found.interval.high,
        }


def plot(compared: Iterable[tuple[str, str]], volumes: Volumes) -> Any:
    """Return a figure: differences over means, with bias and limits of agreement."""
    pairs = list(compared)
    size = (3.4 * len(volumes), 3 * len(pairs))
    figure = plotting()(figsize=size, layout="constrained")
    grid = figure.subplots(len(pairs), len(volumes), squeeze=False)
    for line, (first, second) in zip(grid, pairs, strict=True):
        for axes, (structure, by_reader) in zip(line, volumes.items(), strict=True):
            a = np.array(list(by_reader[first].values()))
            b = np.array([by_reader[second][case] for case in by_reader[first]])
            limits = limits_of_agreement(a, b)
            axes.plot((a + b) / 2, b - a, ".", color="C0")
            for value, style in ((limits.bias, "-"), (limits.lower, "--"), (limits.upper, "--")):
                axes.axhline(value, color="0.3", linestyle=style, linewidth=1)
            axes.set_title(structure)
            axes.set_xlabel("mean, mL")
            axes.set_ylabel(f"{second} - {first}, mL")
    return figure


if __name__ == "__main__":
    main()
