"""Compose the shipped bundles again after a piece of ``configs/`` has changed.

    python scripts/recompose.py --reason "training augments in one resample; weights as before"

A bundle whose configurations change gets a new version with the reason in its changelog. Values
that pieces no longer have are renamed or dropped in the bundle's metadata by hand before.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from volseg.atomic import replacing
from volseg.bundle import (
    compose,
    composition_of,
    network_data_format,
    open_bundle,
    shipped_bundles,
)


def recompose(name: str, reason: str) -> list[str]:
    """Write what the pieces give today; return the names of the files that changed."""
    bundle = open_bundle(name)
    composition = composition_of(bundle.metadata, name)
    folder = bundle.folder / "configs"
    changed = []
    for file, text in compose(composition).items():
        path = folder / file
        if path.read_text(encoding="utf-8") != text:
            changed.append(file)
            _write(path, text)
    if changed:
        metadata = dict(bundle.metadata)
        *leading, last = (int(part) for part in metadata["version"].split("."))
        metadata["version"] = ".".join(map(str, (*leading, last + 1)))
        metadata["changelog"] = {**metadata["changelog"], metadata["version"]: reason}
        metadata["network_data_format"] = network_data_format(composition)
        _write(folder / "metadata.json", json.dumps(metadata, indent=2) + "\n")
    return changed


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main() -> None:
    """Read the arguments and compose every shipped bundle."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reason", required=True, help="what the changelog of the bundles says")
    reason = parser.parse_args().reason
    for name in shipped_bundles():
        changed = recompose(name, reason)
        sys.stdout.write(f"{name}: {', '.join(changed) or 'as before'}\n")


if __name__ == "__main__":
    main()
