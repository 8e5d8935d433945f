"""MSD hippocampus: mean Dice over all cases, each predicted by networks that never saw it.

With several members a fold, the same network is trained from several seeds, and the mean of their
probabilities is measured, too.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from readme import header, row
from reproductions.members import (
    Member,
    failures,
    mean_and_interval,
    measure_member,
    origin,
    pooled,
    scores_of,
    shown,
    train_member,
)
from reproductions.parts import Part, PartStore, finished
from volseg.bundle import make_ensemble, open_bundle
from volseg.choosing import measure_bundle

NAME = "hippocampus"
DATA = "msd_hippocampus"
GOALS = {"anterior": 0.905, "posterior": 0.890}
FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundle", default="hippocampus_unet", help="name or folder")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--members", type=int, default=1, help="networks a fold, a seed each")
    parser.add_argument("--seed", type=int, default=0, help="of the first member")
    parser.add_argument("--epochs", type=int, help="the bundle's own if absent")
    parser.add_argument("--seconds", type=float, help="of each training, instead of epochs")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    name = open_bundle(arguments.bundle).folder.name
    seeds = range(arguments.seed, arguments.seed + arguments.members)
    given = {"epochs": arguments.epochs, "seconds": arguments.seconds}
    length = {key: value for key, value in given.items() if value is not None}
    for fold in arguments.folds:
        done: list[Part] = []
        folders = {seed: arguments.output / f"{name}_fold{fold}_seed{seed}" for seed in seeds}
        for seed, folder in folders.items():
            settings = {"bundle": name, "fold": fold, "seed": seed, **length}

            def member(folder: Path = folder, seed: int = seed, fold: int = fold) -> dict[str, Any]:
                trained = train_member(
                    arguments.bundle,
                    arguments.data,
                    folder,
                    fold=fold,
                    settings={"seed": seed, **length},
                    device=arguments.device,
                )
                return _measured(trained, arguments, fold)

            done.append(store.do(folder.name, settings, member))
        if len(seeds) > 1 and all(part.failure is None for part in done):
            ensemble = arguments.output / f"{name}_fold{fold}_members{len(seeds)}"
            settings = {"bundle": name, "fold": fold, "seeds": list(seeds), **length}

            def mean(
                ensemble: Path = ensemble,
                members: Sequence[Path] = tuple(folders.values()),
                fold: int = fold,
            ) -> dict[str, Any]:
                return _measured_ensemble(ensemble, members, arguments, fold)

            store.do(ensemble.name, settings, mean)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    intervals = [f"{name}, 95 % interval" for name in GOALS]
    lines = header(["network", "folds", "cases", *intervals, "goal", "reached"])
    goal = " / ".join(f"{value:.3f}" for value in GOALS.values())
    for (bundle, members), found in _groups(parts).items():
        values = {name: pooled(found, name, "dice") for name in GOALS}
        folds = sorted({part.settings["fold"] for part in found})
        seeds = {part.settings["seed"] for part in found if members == 1}
        one = "one network" + (f", mean of {len(seeds)} seeds" if len(seeds) > 1 else "")
        cells = [
            f"`{bundle}`, " + (one if members == 1 else f"mean of {members} networks"),
            f"{len(folds)} of {FOLDS}",
            str(len(next(iter(values.values())))),
            *(shown(some) for some in values.values()),
            goal,
            _reached(values) if len(folds) == FOLDS else "not yet known",
        ]
        lines.append(row(cells))
    what = "Mean Dice over out-of-fold cases, every one a patient, on the grid of the files. "
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def _groups(parts: Sequence[Part]) -> dict[tuple[str, int], list[Part]]:
    """Return the finished parts by bundle and number of networks."""
    groups: dict[tuple[str, int], list[Part]] = {}
    for part in finished(list(parts)):
        members = len(part.settings.get("seeds", [0]))
        groups.setdefault((part.settings["bundle"], members), []).append(part)
    return dict(sorted(groups.items()))


def _reached(values: dict[str, dict[str, float]]) -> str:
    reached = [mean_and_interval(values[name])[0] >= goal for name, goal in GOALS.items()]
    return "yes" if all(reached) else "in part" if any(reached) else "no"


def _measured(member: Member, arguments: argparse.Namespace, fold: int) -> dict[str, Any]:
    evaluation = measure_member(member, arguments.data, fold)
    return {**member.about, "scores": scores_of(evaluation)}


def _measured_ensemble(
    folder: Path, members: Sequence[Path], arguments: argparse.Namespace, fold: int
) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    make_ensemble(folder, members)
    shutil.copyfile(members[0] / "configs/datalist.json", folder / "configs/datalist.json")
    return {"scores": scores_of(measure_bundle(folder, arguments.data, fold=fold))}
