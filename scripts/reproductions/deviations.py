"""What `volseg plan` does otherwise than nnU-Net 2: each measured alone, all else being equal.

One network is trained by our rules, and again with one rule at a time put back to nnU-Net's, from
the same seeds and for as many steps; the cases of the fold are compared one by one. A rule of
inference needs no training: the network of our rules is measured with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from readme import header, row
from reproductions.members import (
    failures,
    folds_in_words,
    mean_and_interval,
    measure_member,
    origin,
    pooled,
    scores_of,
    shown,
    train_member,
)
from reproductions.parts import Part, PartStore, finished
from volseg.bundle import open_bundle
from volseg.choosing import measure_bundle

NAME = "deviations"
DATA = "msd_hippocampus"
OURS = "ours"
CLASSES = ("anterior", "posterior")

# By our rules for this data set, as `volseg plan` gives them; the recipe of the bundle has its own.
# The weights of heads are those of the bundle's network, which has fewer of them.
PLANNED: Mapping[str, Any] = {
    "mirror_axes": [0, 2],
    "rotation": [0.4, 0.4, 0.4],
    "scale": [0.8, 1.25],
    "translation": 3,
    "elastic": 0.4,
    "position": "classes",
    "class_ratios": [4, 1, 1],
    "head_weights": [0.6667, 0.3333],
}


@dataclass(frozen=True)
class Rule:
    """A rule of nnU-Net 2.

    Attributes:
        about: What it says.
        values: Of settings of training, in place of ours.
        inference: Settings of inference, in place of the bundle's.
    """

    about: str
    values: Mapping[str, Any] = field(default_factory=dict)
    inference: Mapping[str, Any] = field(default_factory=dict)


THEIRS: Mapping[str, Rule] = {
    "mirroring": Rule("mirrored along every axis", {"mirror_axes": [0, 1, 2]}),
    "movement": Rule(
        "turned by up to 30 degrees and each axis scaled by 0.7 to 1.4, in 20 % of patches",
        {"rotation": [0.5236, 0.5236, 0.5236], "scale": [0.7, 1.4], "moved": 0.2},
    ),
    "elastic": Rule("no elastic deformation", {"elastic": 0.0}),
    # No setting keeps a third around a class and lays the others anywhere.
    "position": Rule("every patch lies anywhere (nnU-Net: two of three)", {"position": "random"}),
    "heads": Rule("the coarsest head left out of the loss", {"head_weights": [1.0, 0.0]}),
    "optimizer": Rule(
        "SGD with Nesterov momentum, polynomial rate",
        {
            "optimizer_name": "sgd",
            "learning_rate": 0.01,
            "schedule": "poly",
            "weight_decay": 3e-5,
            "clip_norm": 12.0,
        },
    ),
    "prediction": Rule(
        "the mean over tiles that are also shown mirrored, as in training, is predicted",
        inference={"mirror_axes": PLANNED["mirror_axes"]},
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    names = [OURS, *THEIRS]
    parser.add_argument("--bundle", default="hippocampus_unet", help="name or folder")
    parser.add_argument("--rules", nargs="+", default=names, choices=names, help="measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--epochs", type=int, default=25)


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    name = open_bundle(arguments.bundle).folder.name
    for seed in arguments.seeds:
        for rule in arguments.rules:
            settings = {"bundle": name, "rule": rule, "seed": seed, "fold": arguments.fold}
            settings["epochs"] = arguments.epochs

            def measured(rule: str = rule, seed: int = seed) -> dict[str, Any]:
                theirs = THEIRS.get(rule, Rule(OURS))
                trained = OURS if theirs.inference else rule
                training = {**PLANNED, **theirs.values, "epochs": arguments.epochs, "seed": seed}
                member = train_member(
                    arguments.bundle,
                    arguments.data,
                    arguments.output / f"{name}_{trained}_seed{seed}",
                    fold=arguments.fold,
                    settings=training,
                    device=arguments.device,
                )
                if not theirs.inference:
                    evaluation = measure_member(member, arguments.data, arguments.fold)
                    return {**member.about, "scores": scores_of(evaluation)}
                evaluation = measure_bundle(
                    member.bundle.folder,
                    arguments.data,
                    fold=arguments.fold,
                    settings=theirs.inference,
                )
                # The time of training is told of where it was trained for.
                return {**member.about, "seconds": 0.0, "scores": scores_of(evaluation)}

            store.do(f"{name}_{rule}_seed{seed}", settings, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(
        ["nnU-Net's rule in place of ours", "seeds"]
        + [f"{name}, ours to it, 95 % interval" for name in CLASSES]
    )
    ours = finished(list(parts), rule=OURS)
    for name, rule in THEIRS.items():
        theirs = finished(list(parts), rule=name)
        seeds = {part.settings["seed"] for part in theirs}
        seeds &= {part.settings["seed"] for part in ours}
        lines.append(row([rule.about, str(len(seeds)), *_gains(ours, theirs, seeds)]))
    what = (
        f"Dice of our rules less that of nnU-Net's, case by case of {folds_in_words(parts)}, mean "
        "over seeds. "
    )
    means = [mean_and_interval(pooled(ours, name, "dice"))[0] for name in CLASSES if ours]
    if means:
        what += f"Ours: {' / '.join(f'{mean:.4f}' for mean in means)}. "
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def _gains(ours: Sequence[Part], theirs: Sequence[Part], seeds: set[int]) -> list[str]:
    """Return the gain of each class for a table, over the seeds that both have."""
    cells = []
    for name in CLASSES:
        values = [
            pooled([part for part in some if part.settings["seed"] in seeds], name, "dice")
            for some in (ours, theirs)
        ]
        gains = {
            case: value - values[1][case] for case, value in values[0].items() if case in values[1]
        }
        cells.append(shown(gains, signed=True))
    return cells
