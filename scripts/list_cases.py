"""Write the datalist of a bundle: its cases, their patients and five folds.

    python scripts/list_cases.py DATA bundles/NAME/configs/datalist.json --name ... --licence ...

DATA holds ``images/`` and ``labels/`` with the same file names. With ``--patients`` (a CSV of
``case,patient``) no patient is split between folds; without it every case is a patient of its own,
and the file says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from volseg.data import list_cases, write_datalist
from volseg.errors import InputError, VolsegError


def main() -> None:
    """Read the arguments and write the datalist."""
    parser = argparse.ArgumentParser(description="Write the datalist of a bundle.")
    parser.add_argument("data", type=Path, help="holds images/ and labels/")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--name", required=True, help="what the data are")
    parser.add_argument("--licence", required=True, help="licence of the data")
    parser.add_argument("--images", default="images", help="folder of the images in DATA")
    parser.add_argument("--labels", default="labels", help="folder of the labels in DATA")
    parser.add_argument("--patients", type=Path, help="CSV with the columns case and patient")
    parser.add_argument("--channels", help="names of the channels, if they are files: t1,flair")
    parser.add_argument("--only", type=Path, help="text file with the cases to take, one a line")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--stratify", help="labels, or a column of that CSV: every fold gets its part of each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--blocks", action="store_true", help="neighbours share a fold: slices of one volume"
    )
    arguments = parser.parse_args()
    channels = arguments.channels.split(",") if arguments.channels else []
    try:
        cases, dealt = list_cases(
            arguments.data,
            images=arguments.images,
            labels=arguments.labels,
            patients=arguments.patients,
            channels=[name.strip() for name in channels],
            only=None if arguments.only is None else names_in(arguments.only),
            folds=arguments.folds,
            stratify=arguments.stratify,
            seed=arguments.seed,
            blocks=arguments.blocks,
        )
        about = {"name": arguments.name, "licence": arguments.licence, **dealt}
        write_datalist(cases, arguments.output, about=about)
    except (VolsegError, OSError) as error:
        sys.exit(str(error))


def names_in(path: Path) -> list[str]:
    """Return the names in a text file, one a line; they may have spaces.

    Raises:
        InputError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as a list of cases ({error}): expected a text file in UTF-8, "
            "one case a line."
        ) from error
    return [name for line in lines if (name := line.strip())]


if __name__ == "__main__":
    main()
