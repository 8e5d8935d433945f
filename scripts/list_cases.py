"""Write the datalist of a bundle: its cases, their patients and five folds.

    python scripts/list_cases.py DATA bundles/NAME/configs/datalist.json --name ... --licence ...

DATA holds ``images/`` and ``labels/`` with the same file names. With ``--patients`` (a CSV of
``case,patient``) no patient is split between folds; without it every case is a patient of its own,
and the file says so.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from volseg.data import Case, grouped_folds, hash_files, paired_cases, write_datalist
from volseg.errors import VolsegError


def main() -> None:
    """Read the arguments and write the datalist."""
    parser = argparse.ArgumentParser(description="Write the datalist of a bundle.")
    parser.add_argument("data", type=Path, help="holds images/ and labels/")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--name", required=True, help="what the data are")
    parser.add_argument("--licence", required=True, help="licence of the data")
    parser.add_argument("--patients", type=Path, help="CSV with the columns case and patient")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        write(arguments)
    except (VolsegError, KeyError) as error:
        sys.exit(str(error))


def write(arguments: argparse.Namespace) -> None:
    """Pair the files, deal the folds, write the list."""
    pairs = paired_cases(arguments.data / "images", arguments.data / "labels")
    patient_of = {case: case for case in pairs}
    source = "the data carry no patient identifiers: every case counts as its own patient"
    if arguments.patients:
        with arguments.patients.open(newline="", encoding="utf-8") as stream:
            patient_of |= {row["case"]: row["patient"] for row in csv.DictReader(stream)}
        source = arguments.patients.name
    groups = {case: patient_of[case] for case in pairs}
    folds = grouped_folds(groups, count=arguments.folds, seed=arguments.seed)
    cases = [
        Case(
            case=case,
            image=image.relative_to(arguments.data).as_posix(),
            label=label.relative_to(arguments.data).as_posix(),
            patient=groups[case],
            fold=folds[case],
        )
        for case, (image, label) in pairs.items()
    ]
    about = {
        "name": arguments.name,
        "licence": arguments.licence,
        "patients": source,
        "folds": f"volseg.data.grouped_folds(count={arguments.folds}, seed={arguments.seed})",
        "sha256": hash_files(path for pair in pairs.values() for path in pair),
    }
    write_datalist(cases, arguments.output, about=about)


if __name__ == "__main__":
    main()
