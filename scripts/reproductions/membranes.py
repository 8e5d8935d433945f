"""ISBI 2012 membranes: pixel accuracy, Rand scores and boundaries in five folds of slices.

The threshold of the probability by which a fold is judged is chosen by pixel accuracy on the slices
of the other folds, each of which a network says that has not seen it. A final network is then
trained on all slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from volseg.bundle import Bundle, open_bundle, write_metadata
from volseg.choosing import (
    CaseEvidence,
    ThresholdChoice,
    choose_threshold,
    gather_evidence,
    record_decisions,
    record_measurement,
)
from volseg.choosing.held_out import held_out_cases
from volseg.data import read_datalist
from volseg.io import read_image
from volseg.metrics import boundary_scores, cells_between, dice, pixel_accuracy, rand_scores
from volseg.segmenter import Maps

NAME = "membranes"
DATA = "isbi2012_em"
BUNDLES = ("membrane_unet", "membrane_unetplusplus", "membrane_unet3plus")
GOAL = 0.93
CLASS = "membrane"
_COLUMNS = (
    *("bundle", "folds", "slices", "pixel accuracy, 95 % interval", "at 0.5", "all white"),
    *("thresholds", "Rand score", "adapted Rand error", "boundary F", "Dice"),
    *("goal", "reached", "final network"),
)
# What the final bundle tells: figures of the folds, since nothing is left to judge it by.
_TOLD = ("accuracy", "rand", "boundary_f", "dice")

Map = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundles", nargs="+", default=BUNDLES, help="names or folders")
    parser.add_argument("--folds", type=int, nargs="*", help="all of the bundle's list if absent")
    parser.add_argument("--final", action="store_true", help="also train on all slices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="the bundle's own if absent")
    parser.add_argument("--seconds", type=float, help="of each training, instead of epochs")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    for bundle in map(open_bundle, arguments.bundles):
        folds = folds_of(bundle)
        trained = [
            _train(bundle, fold, arguments, store)
            for fold in (folds if arguments.folds is None else arguments.folds)
        ]
        found = [
            part
            for fold in folds
            for part in finished(store.read(), what="network", **_settings(bundle, fold, arguments))
        ]
        if len(found) == len(folds):
            for part in trained:
                _score(bundle, part, found, arguments, store)
            if arguments.final:
                _finish(bundle, found, arguments, store)
        else:
            print(f"{bundle.folder.name}: {len(found)} of {len(folds)} folds, no threshold yet")


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(_COLUMNS)
    done = finished(list(parts))
    for bundle in dict.fromkeys([*BUNDLES, *(part.settings["bundle"] for part in parts)]):
        networks = finished(done, bundle=bundle, what="network")
        number = len({part.settings["fold"] for part in networks})
        wanted = max((part.figures["folds"] for part in networks), default=5)
        scores = finished(done, bundle=bundle, what="scores")
        if len({part.settings["fold"] for part in scores}) < wanted:
            scores = []  # means of a few would stand beside means of all
        accuracy = pooled(scores, CLASS, "accuracy")
        thresholds = sorted(part.figures["threshold"] for part in scores)
        reached = "not yet known"
        if scores:
            reached = "yes" if mean_and_interval(accuracy)[0] > GOAL else "no"
        cells = [
            f"`{bundle}`",
            f"{number} of {wanted}",
            str(len(pooled(networks, CLASS, "accuracy"))),
            shown(accuracy),
            *(_mean(networks, metric) for metric in ("accuracy", "all_white")),
            f"{thresholds[0]:.3f} to {thresholds[-1]:.3f}" if thresholds else "-",
            *(_mean(scores, one) for one in ("rand", "adapted_rand_error", "boundary_f", "dice")),
            f"> {GOAL}",
            reached,
            _final(finished(done, bundle=bundle, what="final")),
        ]
        lines.append(row(cells))
    what = (
        "Means over out-of-fold slices of 0 to 24; folds are blocks of neighbours, the threshold "
        "of each is chosen on the others. Rand score: V_Rand of the challenge, "
        "foreground-restricted, cells grown together; boundaries agree within 2 pixels. "
    )
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def folds_of(bundle: Bundle) -> list[int]:
    """Return the folds of a bundle's list."""
    cases = read_datalist(bundle.folder / "configs" / "datalist.json")
    return sorted({case.fold for case in cases})


def evidence_of(parts: Sequence[Part]) -> list[CaseEvidence]:
    """Return what the networks of folds say of thresholds, of each slice the one not trained on it.

    Voxels for a temperature are not among it.
    """
    return [
        CaseEvidence(
            case=case,
            fold=part.settings["fold"],
            true=np.array([counts["true"]]),
            false=np.array([counts["false"]]),
            present=np.array([counts["present"]]),
            voxels=counts["voxels"],
            probabilities=np.empty((2, 0), np.float32),
            targets=np.empty(0, np.uint8),
        )
        for part in parts
        for case, counts in part.figures["above_thresholds"].items()
    ]


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
        "all_white": pixel_accuracy(np.zeros_like(mask), mask),
        "rand": rand.score,
        "adapted_rand_error": rand.adapted_error,
        "boundary_f": boundary_scores(predicted, mask).f_score,
        "dice": dice(predicted, mask),
    }


def _settings(bundle: Bundle, fold: int | str, arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"epochs": arguments.epochs, "seconds": arguments.seconds}
    length = {key: value for key, value in given.items() if value is not None}
    return {"bundle": bundle.folder.name, "fold": fold, "seed": arguments.seed, **length}


def _of_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("bundle", "fold")}


def _folder(bundle: Bundle, fold: int | str, arguments: argparse.Namespace) -> Path:
    name = f"{bundle.folder.name}_fold{fold}_seed{arguments.seed}"
    folder: Path = arguments.output / name
    return folder


def _train(bundle: Bundle, fold: int, arguments: argparse.Namespace, store: PartStore) -> Part:
    """Train a fold; keep its scores at one half, and what it says of thresholds."""
    folder = _folder(bundle, fold, arguments)
    settings = _settings(bundle, fold, arguments)

    def work() -> dict[str, Any]:
        member = train_member(
            bundle.folder,
            arguments.data,
            folder,
            fold=fold,
            settings=_of_training(settings),
            device=arguments.device,
        )
        evidence = gather_evidence(folder, arguments.data, fold=fold)
        return {
            **member.about,
            "folds": len(folds_of(bundle)),
            "scores": scores_of_fold(folder, arguments.data, fold, 0.5),
            "above_thresholds": {
                case.case: {
                    "true": case.true[0].tolist(),
                    "false": case.false[0].tolist(),
                    "present": int(case.present[0]),
                    "voxels": case.voxels,
                }
                for case in evidence
            },
        }

    return store.do(folder.name, {"what": "network", **settings}, work)


def _score(
    bundle: Bundle,
    part: Part,
    folds: Sequence[Part],
    arguments: argparse.Namespace,
    store: PartStore,
) -> None:
    """Judge a fold by the threshold that the others choose."""
    fold = part.settings["fold"]
    folder = _folder(bundle, fold, arguments)

    def work() -> dict[str, Any]:
        threshold = _chosen([one for one in folds if one.settings["fold"] != fold]).value
        scores = scores_of_fold(folder, arguments.data, fold, threshold)
        return {"threshold": threshold, "scores": scores}

    store.do(
        f"{folder.name}_scores", {"what": "scores", **_settings(bundle, fold, arguments)}, work
    )


def _finish(
    bundle: Bundle, folds: Sequence[Part], arguments: argparse.Namespace, store: PartStore
) -> None:
    """Train on all slices; the threshold is what all folds choose."""
    folder = _folder(bundle, "all", arguments)
    settings = _settings(bundle, "all", arguments)

    def work() -> dict[str, Any]:
        member = train_member(
            bundle.folder,
            arguments.data,
            folder,
            fold="all",
            settings=_of_training(settings),
            device=arguments.device,
        )
        choice = _chosen(folds)
        record_decisions(folder, threshold=choice)
        told = record_measurement(folder, arguments.data, None, fold="all")
        scores = finished(store.read(), what="scores", bundle=bundle.folder.name)
        figures = {
            f"{metric}_{CLASS}_out_of_fold": round(mean_and_interval(values)[0], 4)
            for metric in _TOLD
            if (values := pooled(scores, CLASS, metric))
        }
        write_metadata(told, {**told.metadata, "eval_metrics": figures})
        return {**member.about, "threshold": choice.value}

    store.do(folder.name, {"what": "final", **settings}, work)


def _chosen(folds: Sequence[Part]) -> ThresholdChoice:
    return choose_threshold(evidence_of(folds), metric="pixel_accuracy")


def scores_of_fold(
    folder: Path, data: Path, fold: int, threshold: float
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the scores of the slices of a fold at a threshold."""
    segmenter = Segmenter(folder)
    scores: dict[str, dict[str, float | None]] = {}
    for case in held_out_cases(segmenter.bundle, data, fold=fold):
        image = read_image(case.image)
        probabilities = np.zeros((2, *image.shape[1:]), np.float32)
        segmenter.segment(image, maps=Maps(probabilities=probabilities))
        mask = case.reference(image) == 1
        for metric, value in scores_of_slice(probabilities[1], mask, threshold).items():
            scores.setdefault(metric, {})[case.name] = plain(value)
    return {CLASS: scores}


def _mean(parts: Sequence[Part], metric: str) -> str:
    values = pooled(parts, CLASS, metric)
    return f"{mean_and_interval(values)[0]:.4f}" if values else "-"


def _final(parts: Sequence[Part]) -> str:
    if not parts:
        return "not yet trained"
    thresholds = sorted({part.figures["threshold"] for part in parts})
    return f"threshold {', '.join(f'{one:g}' for one in thresholds)}"
