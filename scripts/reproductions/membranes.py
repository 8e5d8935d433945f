"""ISBI 2012 membranes: pixel accuracy, Rand scores and boundaries in five folds of slices.

The threshold of the probability is chosen by pixel accuracy on the slices each network was trained
on, never on those it is judged by. A final network is then trained on all slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from readme import header, row
from reproductions.members import (
    failures,
    mean_and_interval,
    origin,
    pooled,
    shown,
    train_member,
)
from reproductions.parts import Part, PartStore, finished, plain
from volseg import Segmenter
from volseg.bundle import open_bundle
from volseg.io import read_image
from volseg.metrics import boundary_scores, cells_between, dice, pixel_accuracy, rand_scores
from volseg.segmenter import Maps
from volseg.training.held_out import LabelledCase, held_out_cases, training_cases

NAME = "membranes"
DATA = "isbi2012_em"
BUNDLES = ("membrane_unet", "membrane_unetplusplus", "membrane_unet3plus")
FOLDS = 5
GOAL = 0.93
CLASS = "membrane"
_COLUMNS = (
    *("bundle", "folds", "slices", "pixel accuracy, 95 % interval", "at 0.5", "all white"),
    *("thresholds", "Rand score", "adapted Rand error", "boundary F", "Dice"),
    *("goal", "reached", "final network"),
)
# Probabilities that are tried, and how finely they are counted.
_THRESHOLDS = np.arange(0.05, 0.951, 0.01).round(2)
_BINS = 1000

Map = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundles", nargs="+", default=BUNDLES, help="names or folders")
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--final", action="store_true", help="also train on all slices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="the bundle's own if absent")
    parser.add_argument("--seconds", type=float, help="of each training, instead of epochs")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    given = {"epochs": arguments.epochs, "seconds": arguments.seconds}
    length = {key: value for key, value in given.items() if value is not None}
    for bundle in arguments.bundles:
        name = open_bundle(bundle).folder.name
        for fold in [*arguments.folds, *(["all"] if arguments.final else [])]:
            folder = arguments.output / f"{name}_fold{fold}_seed{arguments.seed}"

            def measured(
                bundle: str = bundle, fold: int | str = fold, folder: Path = folder
            ) -> dict[str, Any]:
                member = train_member(
                    bundle,
                    arguments.data,
                    folder,
                    fold=fold,
                    settings={"seed": arguments.seed, **length},
                    device=arguments.device,
                )
                if isinstance(fold, str):
                    return member.about
                return {**member.about, **_scored(folder, arguments.data, fold)}

            settings = {"bundle": name, "fold": fold, "seed": arguments.seed, **length}
            store.do(folder.name, settings, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(_COLUMNS)
    done = finished(list(parts))
    for bundle in dict.fromkeys([*BUNDLES, *(part.settings["bundle"] for part in parts)]):
        own = [part for part in done if part.settings["bundle"] == bundle]
        folds = [part for part in own if part.settings["fold"] != "all"]
        number = len({part.settings["fold"] for part in folds})

        def mean(metric: str, folds: Sequence[Part] = tuple(folds)) -> str:
            values = pooled(folds, CLASS, metric)
            return f"{mean_and_interval(values)[0]:.4f}" if values else "-"

        accuracy = pooled(folds, CLASS, "accuracy")
        thresholds = sorted(part.figures["threshold"] for part in folds)
        reached = "not yet known"
        if number == FOLDS:
            reached = "yes" if mean_and_interval(accuracy)[0] > GOAL else "no"
        cells = [
            f"`{bundle}`",
            f"{number} of {FOLDS}",
            str(len(accuracy)),
            shown(accuracy),
            mean("accuracy_at_half"),
            mean("all_white"),
            f"{thresholds[0]:.2f} to {thresholds[-1]:.2f}" if thresholds else "-",
            *(mean(name) for name in ("rand", "adapted_rand_error", "boundary_f", "dice")),
            f"> {GOAL}",
            reached,
            "trained on all slices" if len(own) > len(folds) else "not yet trained",
        ]
        lines.append(row(cells))
    what = (
        "Means over out-of-fold slices of 0 to 24; folds are blocks of neighbours, thresholds are "
        "chosen by pixel accuracy on the slices trained on. Rand score: V_Rand of the challenge, "
        "foreground-restricted, cells grown together; boundaries agree within 2 pixels. "
    )
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def final_threshold(parts: Sequence[Part], bundle: str) -> float | None:
    """Return the threshold for a network that was trained on all slices: the median of folds."""
    folds = [
        part.figures["threshold"]
        for part in finished(list(parts), bundle=bundle)
        if part.settings["fold"] != "all"
    ]
    return float(median(folds)) if folds else None


def best_threshold(pictures: Iterable[tuple[Map, Map]]) -> float:
    """Return the threshold with the highest pixel accuracy over all pictures together.

    Args:
        pictures: Probability of the foreground and its mask, of each picture.
    """
    counts = np.zeros((2, _BINS), np.int64)
    for probability, mask in pictures:
        for truth in (False, True):
            found, _ = np.histogram(probability[mask == truth], _BINS, (0, 1))
            counts[int(truth)] += found
    # Right are pixels of the background up to the threshold, and of the foreground above it.
    right = counts[0].cumsum() + counts[1].sum() - counts[1].cumsum()
    places = np.rint(_THRESHOLDS * _BINS).astype(int) - 1
    best = right[places].max()
    equal = _THRESHOLDS[right[places] == best]
    return float(equal[np.abs(equal - 0.5).argmin()])


def scores_of_slice(probability: Map, mask: Map, threshold: float) -> dict[str, float]:
    """Return what is measured of a slice.

    Args:
        probability: Of membrane, ``(x, y)``.
        mask: Where membrane is.
        threshold: What the probability must exceed.
    """
    predicted = probability > threshold
    rand = rand_scores(cells_between(predicted, grown=True), cells_between(mask))
    return {
        "accuracy": pixel_accuracy(predicted, mask),
        "accuracy_at_half": pixel_accuracy(probability > 0.5, mask),
        "all_white": pixel_accuracy(np.zeros_like(mask), mask),
        "rand": rand.score,
        "adapted_rand_error": rand.adapted_error,
        "boundary_f": boundary_scores(predicted, mask).f_score,
        "dice": dice(predicted, mask),
    }


def _scored(folder: Path, data: Path, fold: int) -> dict[str, Any]:
    """Return the threshold of the training slices and the scores of the others."""
    segmenter = Segmenter(folder)

    def seen(case: LabelledCase) -> tuple[Map, Map]:
        image = read_image(case.image)
        probabilities = np.zeros((2, *image.shape[1:]), np.float32)
        segmenter.segment(image, maps=Maps(probabilities=probabilities))
        return probabilities[1], case.reference(image) == 1

    threshold = best_threshold(map(seen, training_cases(segmenter.bundle, data, fold=fold)))
    scores: dict[str, dict[str, float | None]] = {}
    for case in held_out_cases(segmenter.bundle, data, fold=fold):
        for metric, value in scores_of_slice(*seen(case), threshold).items():
            scores.setdefault(metric, {})[case.name] = plain(value)
    return {"threshold": threshold, "scores": {CLASS: scores}}
