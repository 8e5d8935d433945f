"""Give a bundle in ``bundles/`` the weights of a trained copy of it, and what is known of them.

    python scripts/ship.py runs/membranes/membrane_unet_foldall_seed0 membrane_unet \
        --reason "trained on all 25 slices"

The weights are stored in half precision; thresholds, rules of cleaning and other values that were
chosen for them, the figures and the record of the run come with them. What is known of the weights
before is taken away, such as what is usual (``configs/quality.json``): learn it anew with ``volseg
bundle quality``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from volseg.bundle import (
    Bundle,
    build_parts,
    composition_of,
    open_bundle,
    recompose,
    write_metadata,
)
from volseg.choosing.cleaning import CLEANING_TABLE
from volseg.choosing.decisions import DECISION_FILE
from volseg.errors import InputError, VolsegError
from volseg.networks import save_weights
from volseg.training.copying import TABLES, TOLD
from volseg.training.run_record import read_run_record

RECORD = "configs/training.json"

# What was chosen for the weights.
_CHOSEN = (DECISION_FILE, CLEANING_TABLE)


def ship(trained: str | Path, bundle: str | Path, *, reason: str) -> Bundle:
    """Give a bundle the weights of another one of the same network and labels, and return it.

    Args:
        trained: A bundle that was trained, measured or not.
        bundle: Becomes its next version.
        reason: What its changelog says.

    Raises:
        InputError: Their networks, labels or recipes differ, or the run left no record.
        BundleError: One of them was not composed.
        OutputError: A file cannot be written.
    """
    source, target = open_bundle(trained), open_bundle(bundle)
    composition = composition_of(source.metadata, source.name)
    before = composition_of(target.metadata, target.name)
    for name in ("network", "recipe", "labels", "regions", "channels"):
        if getattr(composition, name) != getattr(before, name):
            raise InputError(
                f"the {name} of {source.name} is {getattr(composition, name)!r} and that of "
                f"{target.name} {getattr(before, name)!r}: its weights are for another bundle."
            )
    # Where it ran and how it was called is of no use to others.
    record = {name: value for name, value in _record_of(source).items() if name != "command"}
    files = {RECORD: json.dumps(record, indent=2) + "\n"}
    for name in _CHOSEN:
        if (source.folder / name).is_file():
            files[name] = (source.folder / name).read_text(encoding="utf-8")
    network = build_parts(source).network
    shipped = recompose(target, composition, reason, files=files)
    save_weights(network, target.weights, dtype=torch.float16)
    for name in {*_CHOSEN, *(f"configs/{table}" for table in TABLES)} - files.keys():
        (target.folder / name).unlink(missing_ok=True)  # of the weights before
    kept = {name: value for name, value in shipped.metadata.items() if name not in TOLD}
    told = {name: source.metadata[name] for name in TOLD if name in source.metadata}
    return write_metadata(shipped, {**kept, **told})


def _record_of(source: Bundle) -> dict[str, Any]:
    """Return the record of the run that gave a bundle its weights."""
    fold = source.metadata.get("training", {}).get("fold", "*")
    records = [read_run_record(folder) for folder in source.folder.glob(f"runs/fold{fold}")]
    if not records or any(record.get("status") != "finished" for record in records):
        raise InputError(f"{source.folder} holds no run that has finished: train it first.")
    if len(records) > 1:
        raise InputError(
            f"{source.folder} holds {len(records)} runs, and its metadata do not say which of them "
            "gave its weights: remove the others."
        )
    return records[0]


def main() -> None:
    """Read the arguments and ship."""
    parser = argparse.ArgumentParser(description="Give a bundle the weights of a trained copy.")
    parser.add_argument("trained", type=Path, help="folder of the trained bundle")
    parser.add_argument("bundle", help="name or folder of the bundle that gets its weights")
    parser.add_argument("--reason", required=True, help="for the changelog")
    arguments = parser.parse_args()
    try:
        shipped = ship(arguments.trained, arguments.bundle, reason=arguments.reason)
    except VolsegError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{shipped.name} {shipped.metadata['version']}: learn what is usual and tune it anew")


if __name__ == "__main__":
    main()
