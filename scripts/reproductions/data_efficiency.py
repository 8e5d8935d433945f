"""Few training cases: what is reached with 4 to all of them, with and without augmentation.

Every network sees the same number of patches. Which cases it is trained on is drawn with its seed;
a larger number of them contains the smaller one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from readme import header, row
from reproductions.members import (
    failures,
    folds_in_words,
    measure_member,
    origin,
    scores_of,
    train_member,
)
from reproductions.parts import Part, PartStore, finished
from volseg.atomic import replacing
from volseg.bundle import Bundle, copy_bundle, open_bundle
from volseg.data import Case, read_datalist, write_datalist
from volseg.errors import InputError, MissingPackageError

NAME = "data_efficiency"
DATA = "msd_hippocampus"
CASES = (4, 8, 16, 32, 64, 0)
SEEDS = (0, 1, 2)
ARMS = {"with": True, "without": False}
CLASSES = ("anterior", "posterior")
PICTURE = Path("docs") / "data_efficiency.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundle", default="hippocampus_unet", help="name or folder")
    parser.add_argument(
        "--cases", type=int, nargs="+", default=CASES, help="to train on; 0: all outside the fold"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--epochs", type=int, help="over all cases; the bundle's own if absent")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    bundle = open_bundle(arguments.bundle)
    name = bundle.folder.name
    listed = read_datalist(bundle.folder / "configs" / "datalist.json")
    outside = sum(case.fold != arguments.fold for case in listed)
    for number in arguments.cases:
        cases = number or outside
        shares = _shares(bundle, outside, cases, arguments.epochs)
        for seed in arguments.seeds:
            for arm in arguments.arms:
                folder = arguments.output / f"{name}_{cases:03}_cases_{arm}_seed{seed}"
                settings = {"bundle": name, "cases": cases, "of": outside, "arm": arm}
                settings |= {"seed": seed, "fold": arguments.fold, **shares}

                def measured(
                    folder: Path = folder,
                    cases: int = cases,
                    seed: int = seed,
                    arm: str = arm,
                    shares: dict[str, int] = shares,
                ) -> dict[str, Any]:
                    fold = arguments.fold
                    member = train_member(
                        with_fewer_cases(bundle, folder / "bundle", cases, fold=fold, seed=seed),
                        arguments.data,
                        folder / "trained",
                        fold=fold,
                        settings={"augment": ARMS[arm], "seed": seed, **shares},
                        device=arguments.device,
                    )
                    evaluation = measure_member(member, arguments.data, fold)
                    seen = shares["epochs"] * shares["patches"] * cases
                    return {**member.about, "seen": seen, "scores": scores_of(evaluation)}

                store.do(folder.name, settings, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(
        ["training cases", "seeds", "patches seen"]
        + [f"{name}, {arm}" for name in CLASSES for arm in reversed(ARMS)]
        + ["gain"]
    )
    done = finished(list(parts))
    full = max((part.settings["of"] for part in parts), default=0)
    numbers = sorted({*(number or full for number in CASES), *_numbers(done)} - {0})
    for number in numbers:
        found = finished(done, cases=number)
        means = {
            (name, arm): _means(found, name, arm) for name in CLASSES for arm in reversed(ARMS)
        }
        gains = [
            after - before
            for name in CLASSES
            for seed, after in means[name, "with"].items()
            if (before := means[name, "without"].get(seed)) is not None
        ]
        seen = sorted({part.figures["seen"] for part in found})
        cells = [
            f"{number} (all)" if number == full else str(number),
            f"{len({part.settings['seed'] for part in found})} of {len(SEEDS)}",
            f"{seen[0]:,}" if seen else "-",
            *(_mean_and_deviation(list(some.values())) for some in means.values()),
            f"{sum(gains) / len(gains):+.4f}" if gains else "-",
        ]
        lines.append(row(cells))
    what = (
        f"Mean Dice over the held-out cases of {folds_in_words(parts)}, ± the standard deviation "
        "over seeds, with augmentation and without (only where a patch lies is random); the gain "
        "is the mean over classes and seeds. Which cases are trained on is drawn with the seed; "
        "all are those that are not held out. "
    )
    picture = f"![Dice over training cases, with and without augmentation]({PICTURE.as_posix()})"
    return [
        *lines,
        "",
        *([picture, ""] if done else []),
        origin(parts, NAME, more=what),
        *failures(parts),
    ]


def draw(parts: Sequence[Part], folder: Path) -> None:
    """Draw the curves of finished parts as ``docs/data_efficiency.png`` of a folder.

    Raises:
        MissingPackageError: There is nothing to draw with.
    """
    done = finished(list(parts))
    if not done:
        return
    try:
        import matplotlib as mpl  # noqa: PLC0415 - of an extra, and for this picture alone
    except ImportError as error:
        raise MissingPackageError("drawing the curves", "matplotlib", "research") from error

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        1, len(CLASSES), figsize=(8, 3.4), sharey=True, layout="constrained"
    )
    for axis, name in zip(axes, CLASSES, strict=True):
        for arm, colour in zip(ARMS, ("tab:blue", "tab:orange"), strict=True):
            points = {}
            for number in _numbers(done):
                values = list(_means(finished(done, cases=number), name, arm).values())
                if values:
                    points[number] = (sum(values) / len(values), _deviation(values) or 0.0)
            axis.errorbar(
                list(points),
                [mean for mean, _ in points.values()],
                yerr=[spread for _, spread in points.values()],
                label=f"{arm} augmentation",
                color=colour,
                marker="o",
                capsize=3,
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks(_numbers(done), [str(number) for number in _numbers(done)])
        axis.minorticks_off()
        axis.set_title(name)
        axis.set_xlabel("training cases")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean Dice, held-out cases")
    axes[-1].legend(loc="lower right", frameon=False)
    with replacing(folder / PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def with_fewer_cases(bundle: Bundle, folder: Path, number: int, *, fold: int, seed: int) -> Path:
    """Return a copy of a bundle whose list has fewer cases outside of a fold.

    They are the first ones in an order that the seed decides, so that a larger number contains a
    smaller one.

    Args:
        bundle: The bundle.
        folder: Becomes the copy.
        number: Cases to be trained on.
        fold: Whose cases are all kept.
        seed: Of the order.

    Raises:
        InputError: There are fewer cases.
    """
    datalist = bundle.folder / "configs" / "datalist.json"
    cases = read_datalist(datalist)

    def place(case: Case) -> str:
        return hashlib.sha256(f"{seed}:{case.case}".encode()).hexdigest()

    outside = sorted((case for case in cases if case.fold != fold), key=place)
    if not 1 <= number <= len(outside):
        raise InputError(
            f"{number} training cases were asked for, but {datalist} has {len(outside)} outside "
            f"fold {fold}: ask for 1 to {len(outside)}, or 0 for all."
        )
    kept = {case.case for case in outside[:number]}
    chosen = [replace(case) for case in cases if case.fold == fold or case.case in kept]
    about = json.loads(datalist.read_text(encoding="utf-8"))
    about = {name: value for name, value in about.items() if name not in ("training", "sha256")}
    about["chosen"] = f"{number} of {len(outside)} cases outside fold {fold}, by seed {seed}"
    copy_bundle(bundle, folder, without=("runs", "models", "predictions", "evaluation"))
    write_datalist(chosen, folder / "configs" / "datalist.json", about=about)
    return folder


def _shares(bundle: Bundle, outside: int, cases: int, epochs: int | None) -> dict[str, int]:
    """Return epochs and patches a case with which as many patches are seen as with all cases."""
    own = yaml.safe_load(bundle.config("train").read_text(encoding="utf-8"))
    wanted = (epochs or own["epochs"]) * own["patches"] * outside
    patches = max(1, round(own["patches"] * outside / cases))
    return {"epochs": max(1, round(wanted / (patches * cases))), "patches": patches}


def _numbers(parts: Sequence[Part]) -> list[int]:
    return sorted({part.settings["cases"] for part in parts})


def _means(parts: Sequence[Part], name: str, arm: str) -> dict[int, float]:
    """Return the mean Dice of a class by seed."""
    found = {}
    for part in finished(list(parts), arm=arm):
        values = [one for one in part.figures["scores"][name]["dice"].values() if one is not None]
        found[part.settings["seed"]] = sum(values) / len(values)
    return found


def _deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample; None of fewer than two values."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = _deviation(values)
    mean = f"{sum(values) / len(values):.4f}"
    return mean if spread is None else f"{mean} ± {spread:.4f}"
