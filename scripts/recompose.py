"""Compose the shipped bundles again after a piece of ``configs/`` has changed.

    python scripts/recompose.py --reason "training augments in one resample; weights as before"

A bundle whose configurations change gets a new version with the reason in its changelog. Values
that pieces no longer have are renamed or dropped in the bundle's metadata by hand before.
"""

from __future__ import annotations

import argparse
import sys

from volseg.bundle import composition_of, open_bundle, recompose, shipped_bundles


def main() -> None:
    """Read the arguments and compose every shipped bundle."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reason", required=True, help="what the changelog of the bundles says")
    reason = parser.parse_args().reason
    for name in shipped_bundles():
        before = open_bundle(name)
        composition = composition_of(before.metadata, name)
        version = recompose(before, composition, reason, renew=True).metadata["version"]
        changed = version != before.metadata["version"]
        sys.stdout.write(f"{name}: {version if changed else 'as before'}\n")


if __name__ == "__main__":
    main()
