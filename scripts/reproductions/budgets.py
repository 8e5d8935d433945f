"""Equal seconds of training on one machine: volseg beside nnU-Net 2 on the hippocampus.

Both train on the same cases with the same threads, take no step once the seconds are over, and have
learning rates that fall with them. Neither validates meanwhile; volseg's one validation after the
last step is no part of the seconds, nor is what each does before, which is stated apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from readme import header, row
from reproductions.members import (
    failures,
    folds_in_words,
    measure_member,
    origin,
    pooled,
    scores_of,
    shown,
    train_member,
)
from reproductions.nnunet import VERSION, NnUNet
from reproductions.parts import Part, PartStore, finished
from volseg.bundle import open_bundle
from volseg.data import read_datalist

NAME = "budgets"
DATA = "msd_hippocampus"
BUDGETS = (300, 900, 1800, 3600)
CLASSES = {"anterior": 1, "posterior": 2}
_SYSTEMS = ("volseg", "nnunet")
_COLUMNS = (
    *("seconds", "class", "volseg", "nnU-Net 2", "ahead by, 95 % interval", "steps"),
    *("goal", "reached"),
)
_Work = Callable[[argparse.Namespace, int, int], dict[str, Any]]
# Epochs between validations: more than there are.
_NEVER = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundle", default="hippocampus_unet", help="name or folder")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="seconds")
    parser.add_argument("--systems", nargs="+", default=_SYSTEMS, choices=_SYSTEMS)
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=1, help="processes that augment, for both")
    parser.add_argument(
        "--nnunet", type=Path, help="folder of nnU-Net and its data; OUTPUT/budgets/nnunet"
    )


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    name = open_bundle(arguments.bundle).folder.name
    for budget in arguments.budgets:
        for seed in arguments.seeds:
            for system in arguments.systems:
                settings = {"system": system, "budget": budget, "seed": seed, "bundle": name}
                settings |= {"fold": arguments.fold, "threads": arguments.threads}
                settings |= {"workers": arguments.workers, "device": _device(arguments)}
                work = _volseg if system == "volseg" else _nnunet

                def measured(
                    budget: int = budget, seed: int = seed, work: _Work = work
                ) -> dict[str, Any]:
                    return work(arguments, budget, seed)

                store.do(f"{budget}s_{system}_seed{seed}", settings, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(_COLUMNS)
    for budget in sorted({*BUDGETS, *(part.settings["budget"] for part in parts)}):
        found = {system: _finished(parts, budget, system) for system in _SYSTEMS}
        for name in CLASSES:
            values = {system: pooled(some, name, "dice") for system, some in found.items()}
            gains = {
                case: value - values["nnunet"][case]
                for case, value in values["volseg"].items()
                if case in values["nnunet"]
            }
            ahead = sum(gains.values()) > 0
            cells = [
                f"{budget:,}",
                name,
                *(_mean(some) for some in values.values()),
                shown(gains, signed=True),
                " / ".join(_steps(some) for some in found.values()),
                "ahead",
                ("yes" if ahead else "no") if gains else "not yet known",
            ]
            lines.append(row(cells))
    what = (
        f"Mean Dice over the held-out cases of {folds_in_words(parts)}; the seconds are those in "
        f"which steps are taken. nnU-Net {VERSION}: its own plans, trainer and prediction with "
        "mirroring, its learning rate falling with the seconds instead of the epochs. "
        + _before(parts)
    )
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def _finished(parts: Sequence[Part], budget: int, system: str) -> list[Part]:
    return finished(list(parts), budget=budget, system=system)


def _mean(values: dict[str, float]) -> str:
    return f"{sum(values.values()) / len(values):.4f}" if values else "-"


def _steps(parts: Sequence[Part]) -> str:
    return f"{sum(part.figures['steps'] for part in parts) / len(parts):,.0f}" if parts else "-"


def _before(parts: Sequence[Part]) -> str:
    """Return what is said of the time that is not in the seconds."""
    names = {"nnunet": "nnU-Net's planning and preprocessing", "volseg": "volseg's reading"}
    said = ""
    for system, name in names.items():
        found = finished(list(parts), system=system)
        seconds = [one for part in found if (one := part.figures.get("prepared_seconds"))]
        if seconds:
            said += f"{name} took {max(seconds):.0f} s besides. "
    return said


def _device(arguments: argparse.Namespace) -> str:
    """Return the device of both: nnU-Net takes kinds of devices, not one of several."""
    chosen: str = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return chosen.partition(":")[0]


def _volseg(arguments: argparse.Namespace, budget: int, seed: int) -> dict[str, Any]:
    member = train_member(
        arguments.bundle,
        arguments.data,
        arguments.output / f"volseg_{budget}s_seed{seed}",
        fold=arguments.fold,
        settings={
            "seconds": budget,
            "seed": seed,
            "val_interval": _NEVER,
            "workers": arguments.workers,
        },
        device=_device(arguments),
    )
    evaluation = measure_member(member, arguments.data, arguments.fold)
    return {**member.about, "scores": scores_of(evaluation)}


def _nnunet(arguments: argparse.Namespace, budget: int, seed: int) -> dict[str, Any]:
    datalist = open_bundle(arguments.bundle).folder / "configs" / "datalist.json"
    cases = read_datalist(datalist)
    home = arguments.nnunet or arguments.output / "nnunet"
    system = NnUNet(home.resolve(), arguments.threads, arguments.workers, _device(arguments))
    system.install()
    prepared = system.prepare(
        cases, arguments.data, labels=CLASSES, name="hippocampus", channel="MRI"
    )
    trained = system.train(arguments.fold, seconds=budget, seed=seed)
    evaluation = system.measure(
        cases,
        arguments.data,
        fold=arguments.fold,
        seconds=budget,
        seed=seed,
        labels=CLASSES,
    )
    return {**trained, "prepared_seconds": prepared, "scores": scores_of(evaluation)}
