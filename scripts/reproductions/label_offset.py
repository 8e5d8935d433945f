"""Labels beside their pictures: what it brings that they lie there in moved patches, too.

The membrane U-Net on one fold of slices, with all else the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readme import header, row
from reproductions.members import failures, origin, pooled, shown, train_member
from reproductions.membranes import CLASS, scores_of_fold
from reproductions.parts import Part, PartStore, finished
from volseg.bundle import open_bundle

NAME = "label_offset"
DATA = "isbi2012_em"
OURS = "ours"


@dataclass(frozen=True)
class Arm:
    """One way to move patches.

    Attributes:
        about: What it is.
        values: Of settings, in place of the bundle's.
    """

    about: str
    values: Mapping[str, Any]


_ANY_ANGLE = 3.1416
ARMS: Mapping[str, Arm] = {
    OURS: Arm("mirrored, turned by up to 0.1; the offset is kept", {}),
    "turned": Arm("mirrored, turned by any angle; the offset is kept", {"rotation": _ANY_ANGLE}),
    "blurred": Arm(
        "mirrored, turned by any angle; the offset goes with it",
        {"rotation": _ANY_ANGLE, "label_offset": [0.0, 0.0]},
    ),
    "still": Arm("not mirrored, turned by up to 0.1", {"mirror_axes": []}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundle", default="membrane_unet", help="name or folder")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--fold", type=int, default=2, help="held out; the middle one by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="the bundle's own if absent")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    bundle = open_bundle(arguments.bundle)
    length = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    for seed in arguments.seeds:
        for arm in arguments.arms:
            folder = arguments.output / f"{bundle.folder.name}_{arm}_seed{seed}"
            training = {**ARMS[arm].values, "seed": seed, **length}

            def measured(
                folder: Path = folder, training: Mapping[str, Any] = training
            ) -> dict[str, Any]:
                member = train_member(
                    bundle.folder,
                    arguments.data,
                    folder,
                    fold=arguments.fold,
                    settings=training,
                    device=arguments.device,
                )
                scores = scores_of_fold(folder, arguments.data, arguments.fold, 0.5)
                return {**member.about, "scores": scores}

            settings = {"bundle": bundle.folder.name, "arm": arm, "fold": arguments.fold}
            store.do(folder.name, {**settings, "seed": seed, **length}, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(["patches", "seeds", "pixel accuracy at 0.5", "boundary F", "less than ours by"])
    ours = pooled(finished(list(parts), arm=OURS), CLASS, "accuracy")
    for name, arm in ARMS.items():
        found = finished(list(parts), arm=name)
        accuracy = pooled(found, CLASS, "accuracy")
        behind = {case: ours[case] - value for case, value in accuracy.items() if case in ours}
        cells = [
            arm.about,
            str(len({part.settings["seed"] for part in found})),
            _mean(accuracy),
            _mean(pooled(found, CLASS, "boundary_f")),
            "-" if name == OURS else shown(behind, signed=True),
        ]
        lines.append(row(cells))
    return [*lines, "", origin(parts, NAME), *failures(parts)]


def _mean(values: Mapping[str, float]) -> str:
    return f"{sum(values.values()) / len(values):.4f}" if values else "-"
