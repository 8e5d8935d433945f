"""Training and measuring one member of a reproduction, as a user would."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reproductions.parts import Part, plain
from volseg.bundle import Bundle, open_bundle
from volseg.choosing import measure_bundle, record_measurement
from volseg.errors import InputError
from volseg.evaluation import Evaluation, Interval, intervals_of_means
from volseg.training import CheckpointEveryEpoch, TrainingState, train_bundle
from volseg.training.run_record import read_run_record
from volseg.training.run_settings import differing_settings, require_run_settings

# Class, metric and case to value; None where the metric does not apply.
Scores = dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True)
class Member:
    """A trained bundle.

    Attributes:
        bundle: Its folder.
        about: What a part keeps of its training.
    """

    bundle: Bundle
    about: dict[str, Any]


def train_member(
    bundle: str | Path,
    data: Path,
    folder: Path,
    *,
    fold: int | Literal["all"],
    settings: Mapping[str, Any],
    device: str | None = None,
) -> Member:
    """Train a bundle, go on where it was interrupted, or find it trained.

    Args:
        bundle: Name or folder.
        data: The folder the paths in its datalist are relative to.
        folder: Becomes the trained copy.
        fold: Held out, or ``all``.
        settings: Of the training, where they are not the bundle's own.
        device: The bundle's own choice by default.

    Raises:
        InputError: It was trained with other settings.
        VolsegError: Training failed.
    """
    run = folder / "runs" / f"fold{fold}"
    weights = folder / "models" / "model.pt"
    before = None
    if weights.is_file() and read_run_record(run).get("status") == "finished":
        _require_same_settings(folder, run, bundle, {**settings, "fold": fold})
    else:
        started, resumed = time.monotonic(), (run / CheckpointEveryEpoch.CHECKPOINT).is_file()
        show = _shown_an_epoch(f"{folder.name}, fold {fold}")
        train_bundle(
            bundle, data, folder, fold=fold, device=device, settings=settings, progress=show
        )
        if not resumed:
            before = time.monotonic() - started - read_run_record(run)["seconds"]
    record = read_run_record(run)
    about = {name: record[name] for name in ("seconds", "epochs", "steps")}
    about["bundle"] = f"{record['bundle']['name']} {record['bundle']['version']}"
    about["device"] = record["machine"]["device"]
    about["training_cases"] = record["data"]["training_cases"]
    if before is not None:  # what is not training itself, such as reading the cases
        about["prepared_seconds"] = round(before, 1)
    return Member(open_bundle(folder), about)


def _require_same_settings(
    folder: Path, run: Path, bundle: str | Path, given: Mapping[str, Any]
) -> None:
    """Refuse a run that was trained otherwise than a bundle with the given settings would be."""
    had = read_run_record(run)["settings"]
    asked = require_run_settings(open_bundle(bundle), given)
    differing = differing_settings(had, {name: asked.get(name) for name in had})
    if differing:
        raise InputError(
            f"{folder} was trained with other settings ({'; '.join(differing.values())}): give "
            "those again, remove it, or give another folder with --output."
        )


def measure_member(member: Member, data: Path, fold: int) -> Evaluation:
    """Measure a member on the cases it has not seen, which its metadata then tell, and return it.

    Raises:
        VolsegError: It cannot be measured.
    """
    evaluation = measure_bundle(member.bundle.folder, data, fold=fold)
    record_measurement(member.bundle.folder, data, evaluation, fold=fold)
    return evaluation


def scores_of(evaluation: Evaluation, metrics: Sequence[str] = ("dice",)) -> Scores:
    """Return the scores of the cases as plain values."""
    found: Scores = {}
    for score in evaluation.rows:
        for metric in metrics:
            value = plain(getattr(score, metric))
            found.setdefault(score.name, {}).setdefault(metric, {})[score.case] = value
    return found


def pooled(parts: Sequence[Part], name: str, metric: str) -> dict[str, float]:
    """Return the values of a class and metric by case, over parts; of several of a case the mean.

    Cases to which the metric does not apply are left out.
    """
    values: dict[str, list[float]] = {}
    for part in parts:
        for case, value in part.figures["scores"][name][metric].items():
            if value is not None:
                values.setdefault(case, []).append(value)
    return {case: math.fsum(some) / len(some) for case, some in values.items()}


def mean_and_interval(values: Mapping[str, float]) -> tuple[float, Interval]:
    """Return the mean over cases and its 95 % interval by bootstrap, each case its own patient."""
    table = np.array(list(values.values()))[:, np.newaxis]
    return float(table.mean()), intervals_of_means(table, list(values))[0]


def shown(values: Mapping[str, float], *, signed: bool = False) -> str:
    """Return ``0.9010 (0.8979 to 0.9036)`` for a table; a dash of no values."""
    if not values:
        return "-"
    mean, interval = mean_and_interval(values)
    ends = [mean, interval.low, interval.high]
    text = [f"{one:+.4f}" if signed else f"{one:.4f}" for one in ends]
    return f"{text[0]} ({text[1]} to {text[2]})" if math.isfinite(interval.low) else text[0]


def failures(parts: Sequence[Part]) -> list[str]:
    """Return a line for each part that failed, for below a table."""
    return [f"- `{part.part}` failed: {part.failure}" for part in parts if part.failure]


def folds_in_words(parts: Sequence[Part]) -> str:
    """Return which folds were held out: ``fold 0``, or ``folds 0, 1``."""
    folds = sorted({part.settings["fold"] for part in parts})
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


def origin(parts: Sequence[Part], row: str, *, more: str = "") -> str:
    """Return the line below a table: seeds, time, machines, versions, command."""
    done = [part for part in parts if part.failure is None]
    if not done:
        return nothing_measured(row)
    seeds = sorted({part.settings["seed"] for part in done if "seed" in part.settings})
    hours = sum(part.figures.get("seconds", 0) for part in done) / 3600
    machines = sorted(
        {f"{part.machine['threads']} thread(s) of {part.machine['processor']}" for part in done}
        | {one for part in done if (one := part.figures.get("device", "CPU")) != "CPU"}
    )
    torches = sorted({part.machine["torch"] for part in done})
    bundles = sorted({part.figures["bundle"] for part in done if "bundle" in part.figures})
    dates = sorted({part.date for part in done})
    return (
        f"{more}Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; trained for "
        f"{hours:.2f} hours on {'; '.join(machines)}; torch {', '.join(torches)}; "
        f"{', '.join(bundles)}. From {dates[0]} to {dates[-1]}, by "
        f"`python scripts/reproduce.py {row}`."
    )


def nothing_measured(row: str) -> str:
    """Return what stands for the table of a row without results."""
    return f"Nothing is measured yet: `python scripts/reproduce.py {row}`."


def _shown_an_epoch(what: str) -> Callable[[TrainingState], None]:
    """Return what prints a line at the end of each epoch."""

    def show(state: TrainingState) -> None:
        if state.epoch_has_ended:
            print(f"{what}: {state.describe()}", flush=True)

    return show
