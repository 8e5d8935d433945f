"""Train and measure anew what the README claims, and write it there, between two markers.

    python scripts/reproduce.py augmentation --data ../shared/data --output runs --threads 2
    python scripts/reproduce.py augmentation --data ../shared/data --output runs --readme

Each sub-command is a module in `reproductions`, with a function that adds its arguments and one
that runs it. What is finished is not done again, what was interrupted goes on.
"""

from __future__ import annotations

import argparse

from reproductions import augmentation
from volseg.errors import VolsegError


def main() -> None:
    """Read the arguments and run the sub-command."""
    parser = argparse.ArgumentParser(description="Train and measure anew what the README claims.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (augmentation,):
        module.add(commands)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except VolsegError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
