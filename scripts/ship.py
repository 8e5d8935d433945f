"""Give a bundle in ``bundles/`` the weights of a trained copy of it, and what is known of them.

    python scripts/ship.py runs/membranes/membrane_unet_foldall_seed0 membrane_unet \
        --reason "trained on all 25 slices"

The weights are stored in half precision; thresholds and other values that were chosen for them,
the figures and the record of the run come with them. What is usual (``configs/quality.json``) was
learned from the weights before and is taken away: learn it anew with ``volseg bundle quality``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from volseg.bundle import (
    Bundle,
    build_parts,
    composition_of,
    open_bundle,
    recompose,
    write_metadata,
)
from volseg.choosing.decisions import DECISION_FILE
from volseg.errors import InputError, VolsegError
from volseg.networks import save_weights
from volseg.quality import QUALITY_FILE
from volseg.training.run_record import read_run_record

RECORD = "configs/training.json"

# What the metadata tell of the weights.
_TOLD = ("training", "eval_metrics")


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
    records = [read_run_record(folder) for folder in sorted(source.folder.glob("runs/fold*"))]
    if not records or records[-1].get("status") != "finished":
        raise InputError(f"{source.folder} holds no run that has finished: train it first.")
    # Where it ran and how it was called is of no use to others.
    record = {name: value for name, value in records[-1].items() if name != "command"}
    files = {RECORD: json.dumps(record, indent=2) + "\n"}
    decision = source.folder / DECISION_FILE
    if decision.is_file():
        files[DECISION_FILE] = decision.read_text(encoding="utf-8")
    network = build_parts(source).network
    shipped = recompose(target, composition, reason, files=files)
    save_weights(network, target.weights, dtype=torch.float16)
    (target.folder / "configs" / QUALITY_FILE).unlink(missing_ok=True)
    told = {name: source.metadata[name] for name in _TOLD if name in source.metadata}
    return write_metadata(shipped, {**shipped.metadata, **told})


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
