"""Measure speed beside others in the same run, and write it into the README, between two markers.

    python scripts/benchmark.py networks --names unet vnet --dims 3 --preset reference --size 96
    python scripts/benchmark.py transforms --sizes 128x128x128 --threads 1 --repeats 3
    python scripts/benchmark.py transforms --json transforms.json --readme
    python scripts/benchmark.py dicom --slices 100 --repeats 3
    python scripts/benchmark.py training --data DATA --steps 10 --repeats 4
    python scripts/benchmark.py inference --rows f32 memory --scale 0.5

Each sub-command is a module in `benchmarks`, with a function that adds its arguments and one that
runs it.
"""

from __future__ import annotations

import argparse

from benchmarks import dicom, inference, networks, training, transforms


def main() -> None:
    """Read the arguments and run the sub-command."""
    parser = argparse.ArgumentParser(description="Measure speed beside others in the same run.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (dicom, inference, networks, training, transforms):
        module.add(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
