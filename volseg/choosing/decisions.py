"""Choosing how a bundle decides, by cases it was not trained on: the threshold, the temperature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.bundle import Bundle, composition_of, open_bundle, recompose
from volseg.choosing.evidence import THRESHOLDS, CaseEvidence, tempered
from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.metrics import CalibrationTally, fit_temperature
from volseg.quality import QUALITY_FILE

#: What a threshold can be chosen by.
THRESHOLD_METRICS = ("dice", "pixel_accuracy")
DECISION_FILE = "configs/decision.json"

# Scores that differ by no more count as equal: the threshold nearest to one half is taken.
_SAME_SCORE = 1e-4
# Voxels that a temperature is fitted to at most.
_MOST_VOXELS = 1_000_000
_LEAST = 1e-7


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold that was chosen, and how all others did.

    Attributes:
        value: The threshold.
        metric: What it was chosen by, the mean over the cases of it.
        before: What one half reaches.
        after: What it reaches.
        cases: How many there were.
        curve: Each threshold and what it reaches.
    """

    value: float
    metric: str
    before: float
    after: float
    cases: int
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TemperatureChoice:
    """The temperature that fits best, and what it changes.

    Attributes:
        value: The temperature.
        negative_log_likelihood: In nats a voxel, before and after.
        expected_calibration_error: Of the label (of regions the mean over them), before and after;
            see `volseg.metrics.CalibrationTally`.
        voxels: Drawn at random, that it was fitted to.
        cases: They are of.
    """

    value: float
    negative_log_likelihood: tuple[float, float]
    expected_calibration_error: tuple[float, float]
    voxels: int
    cases: int


def choose_threshold(cases: Sequence[CaseEvidence], *, metric: str = "dice") -> ThresholdChoice:
    """Return the threshold that reaches most on held-out cases.

    Args:
        cases: What `gather_evidence` found.
        metric: One of `THRESHOLD_METRICS`. Dice is the mean over structures, without those that a
            case does not have and that are not found.

    Raises:
        UnknownNameError: There is no such metric.
        InputError: There is no case, or more than two classes compete.
    """
    if metric not in THRESHOLD_METRICS:
        raise UnknownNameError("metric", metric, THRESHOLD_METRICS)
    _require_cases(cases)
    if not len(cases[0].present):
        raise InputError(
            "a threshold is for the foreground of two classes, or for regions: here more than two "
            "classes compete, and the most probable one wins."
        )
    if not any(case.present.any() for case in cases):
        raise InputError("no case has a structure to find: there is nothing to choose by.")
    curve: npt.NDArray[np.float64] = np.nanmean([_scores(one, metric) for one in cases], axis=0)
    good = np.flatnonzero(curve >= curve.max() - _SAME_SCORE)
    half = int(np.flatnonzero(THRESHOLDS == 0.5)[0])
    best = int(min(good, key=lambda place: (abs(place - half), place)))
    return ThresholdChoice(
        value=float(THRESHOLDS[best]),
        metric=metric,
        before=float(curve[half]),
        after=float(curve[best]),
        cases=len(cases),
        curve=tuple(
            (float(threshold), round(float(score), 6))
            for threshold, score in zip(THRESHOLDS, curve, strict=True)
        ),
    )


def choose_temperature(cases: Sequence[CaseEvidence]) -> TemperatureChoice:
    """Return the temperature at which held-out voxels are most likely.

    Args:
        cases: What `gather_evidence` found.

    Raises:
        InputError: There is no case.
    """
    _require_cases(cases)
    each = max(1, _MOST_VOXELS // len(cases))
    probabilities = np.concatenate([case.probabilities[:, :each] for case in cases], axis=1)
    targets = np.concatenate([case.targets[..., :each] for case in cases], axis=-1)
    exclusive = targets.ndim == 1
    said = np.clip(probabilities.astype(np.float64), _LEAST, None)
    logits = np.log(said)
    if not exclusive:
        logits -= np.log(np.clip(1 - said, _LEAST, None))
    found = fit_temperature(logits, targets)
    return TemperatureChoice(
        value=round(found.value, 4),
        negative_log_likelihood=(found.before, found.after),
        expected_calibration_error=(
            _calibration_error(probabilities, targets),
            _calibration_error(tempered(probabilities, found.value, exclusive=exclusive), targets),
        ),
        voxels=found.voxels,
        cases=len(cases),
    )


def decision_values(
    threshold: ThresholdChoice | None, temperature: TemperatureChoice | None
) -> dict[str, float]:
    """Return the values of a bundle that the choices set."""
    chosen = {"threshold": threshold, "temperature": temperature}
    return {name: choice.value for name, choice in chosen.items() if choice is not None}


def record_decisions(
    bundle: str | Path,
    *,
    threshold: ThresholdChoice | None = None,
    temperature: TemperatureChoice | None = None,
) -> Bundle:
    """Make what was chosen a bundle's own, and keep in it how that was found.

    The bundle is composed again with the values, its version raised and its changelog extended; the
    curve and the figures are in ``configs/decision.json``. What is usual for cases, such as
    their entropy, is another when either value is: ``configs/quality.json`` is taken away then.

    Raises:
        BundleError: The bundle was not composed, or its inference was edited: nothing is changed.
        OutputError: A file cannot be written.
    """
    opened = open_bundle(bundle)
    composition = composition_of(opened.metadata, opened.name)
    values = decision_values(threshold, temperature)
    usual = {"threshold": 0.5, "temperature": 1.0}
    before = {name: composition.values.get(name, usual[name]) for name in values}
    changed = replace(composition, values={**composition.values, **values})
    entries = read_decisions(opened) | _entries(threshold, temperature)
    text = json.dumps(entries, indent=2, allow_nan=False) + "\n"
    opened = recompose(
        opened, changed, _changelog(threshold, temperature), files={DECISION_FILE: text}
    )
    if values != before:
        (opened.folder / "configs" / QUALITY_FILE).unlink(missing_ok=True)
    return opened


def decisions_text(
    threshold: ThresholdChoice | None, temperature: TemperatureChoice | None, **about: str
) -> str:
    """Return what ``configs/decision.json`` says of choices.

    Args:
        threshold: That was chosen, if one was.
        temperature: Likewise.
        about: What else to say of each.
    """
    entries = _entries(threshold, temperature)
    told = {name: {**about, **entry} for name, entry in entries.items()}
    return json.dumps(told, indent=2, allow_nan=False) + "\n"


def _entries(
    threshold: ThresholdChoice | None, temperature: TemperatureChoice | None
) -> dict[str, Any]:
    chosen = {"threshold": threshold, "temperature": temperature}
    return {name: asdict(choice) for name, choice in chosen.items() if choice is not None}


def read_decisions(bundle: Bundle) -> dict[str, Any]:
    """Return how a bundle came to decide as it does, by what was chosen; nothing if none was.

    Raises:
        BundleError: The file that says it is damaged.
    """
    path = bundle.folder / DECISION_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}): remove it.") from error
    return dict(found) if isinstance(found, Mapping) else {}


def _changelog(threshold: ThresholdChoice | None, temperature: TemperatureChoice | None) -> str:
    parts = []
    if threshold is not None:
        parts.append(
            f"threshold {threshold.value:g} ({threshold.metric.replace('_', ' ')} "
            f"{threshold.after:.4f}, at one half {threshold.before:.4f})"
        )
    if temperature is not None:
        before, after = temperature.expected_calibration_error
        parts.append(
            f"temperature {temperature.value:g} (expected calibration error {before:.4f} to "
            f"{after:.4f})"
        )
    cases = next(choice.cases for choice in (threshold, temperature) if choice is not None)
    return f"{' and '.join(parts)} chosen on {cases} held-out cases; weights as before"


def _scores(case: CaseEvidence, metric: str) -> npt.NDArray[np.float64]:
    """Return what each threshold reaches in a case; NaN where there is nothing to find or found."""
    if metric == "pixel_accuracy":
        right = case.true + (case.voxels - case.present)[:, np.newaxis] - case.false
        accuracy: npt.NDArray[np.float64] = (right / max(1, case.voxels)).mean(axis=0)
        return accuracy
    sizes = case.true + case.false + case.present[:, np.newaxis]
    dice = np.full(sizes.shape, np.nan)
    np.divide(2 * case.true, sizes, out=dice, where=sizes > 0)
    counted = ~np.isnan(dice)
    total = np.where(counted, dice, 0).sum(axis=0)
    found = np.full(total.shape, np.nan)
    np.divide(total, counted.sum(axis=0), out=found, where=counted.any(axis=0))
    return found


def _calibration_error(probabilities: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
    if targets.ndim == 1:
        tally = CalibrationTally(range(len(probabilities)))
        tally.add(probabilities, targets)
        label = tally.result().label
        return float("nan") if label is None else label.expected_error
    errors = []
    for own, truth in zip(probabilities, targets, strict=True):
        tally = CalibrationTally([1], exclusive=False)
        tally.add(own[np.newaxis], truth.astype(np.uint8))
        errors.append(tally.result().channels[0].expected_error)
    return float(np.mean(errors))


def _require_cases(cases: Sequence[CaseEvidence]) -> None:
    if not cases:
        raise InputError("there are no held-out cases to choose by.")
