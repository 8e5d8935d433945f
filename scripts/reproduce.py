"""Train and measure anew what the README claims, and write it there, between two markers.

    python scripts/reproduce.py hippocampus --data ../shared/data --output runs --folds 0 1
    python scripts/reproduce.py budgets --data ../shared/data --output runs --budgets 300
    python scripts/reproduce.py hippocampus --readme

Each row of results is a module in `reproductions`. It is done in parts: what is finished is not
done again, what was interrupted goes on, and what was found is kept in
``scripts/reproductions/results``. Without ``--data`` nothing is done but the table made of that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import torch

from readme import README, write_section
from reproductions import (
    budgets,
    data_efficiency,
    deviations,
    hippocampus,
    label_offset,
    membranes,
    nuclei,
)
from reproductions.members import nothing_measured
from reproductions.parts import RESULTS, PartStore
from volseg.errors import VolsegError

ROWS = (hippocampus, budgets, membranes, label_offset, nuclei, data_efficiency, deviations)


def main() -> None:
    """Read the arguments and do the row."""
    parser = argparse.ArgumentParser(description="Train and measure anew what the README claims.")
    commands = parser.add_subparsers(required=True, metavar="ROW")
    for row in ROWS:
        about = (row.__doc__ or "").partition("\n")[0]
        # Without abbreviations, options that name places are known by their names.
        command = commands.add_parser(row.NAME, help=about, description=about, allow_abbrev=False)
        row.add_arguments(command)
        _add_common(command)
        command.set_defaults(row=row)
    arguments = parser.parse_args()
    try:
        _do(arguments.row, arguments)
    except VolsegError as error:
        raise SystemExit(f"error: {error}") from None


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, help="holds msd_hippocampus/ and others, or is the data set itself"
    )
    parser.add_argument("--output", type=Path, help="holds, or will hold, what is trained")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="folder of what was found; the default is ours",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; a GPU if there is one")
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="?",
        const=README,
        metavar="FILE",
        help="write the table into README.md, or another file with the same markers",
    )


def _do(row: ModuleType, arguments: argparse.Namespace) -> None:
    """Do what is asked for of a row, then print or publish its table."""
    store = PartStore(arguments.results / row.NAME)
    if arguments.data is not None:
        if arguments.output is None:
            raise SystemExit("error: --data needs --output: a folder for what is trained.")
        own = arguments.data / row.DATA
        arguments.data = own if own.is_dir() else arguments.data
        arguments.output = arguments.output / row.NAME
        given = vars(arguments).items()
        places = {value: name.upper() for name, value in given if isinstance(value, Path)}
        store = PartStore(arguments.results / row.NAME, places)
        torch.set_num_threads(arguments.threads)
        row.run(arguments, store)
    parts = store.read()
    lines = row.table(parts) if parts else [nothing_measured(row.NAME)]
    print("\n".join(lines))
    if arguments.readme is not None:
        if hasattr(row, "draw"):
            row.draw(parts, arguments.readme.parent)
        write_section(row.NAME, f"scripts/reproduce.py {row.NAME}", lines, readme=arguments.readme)
    if store.failed:
        raise SystemExit(f"error: {len(store.failed)} part(s) failed: {', '.join(store.failed)}")


if __name__ == "__main__":
    main()
