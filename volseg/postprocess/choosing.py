"""Choosing rules by what they do to held-out predictions.

A rule that sounds right often is not: keeping the largest component loses a kidney. nnU-Net decides
by cross-validation whether to apply its one rule (F. Isensee et al., Nature Methods 18, 2021,
supplementary note 3); here each class decides on each candidate, by a stated margin.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError, ShapeError
from volseg.postprocess.apply import apply_rules
from volseg.postprocess.decision_table import Decision, DecisionTable, Outcome
from volseg.postprocess.label_map import check_label_map, check_not_negative
from volseg.postprocess.rule import Rule
from volseg.postprocess.values import count_values

#: Prediction, reference and classes to the metric of each class (higher is better); NaN where
#: neither map holds the class.
Metric = Callable[[npt.NDArray[Any], npt.NDArray[Any], Collection[int]], Mapping[int, float]]


def choose_rules(
    predictions: Sequence[Any],
    references: Sequence[Any],
    candidates: Iterable[Rule],
    *,
    spacings: Sequence[Sequence[float]] | None = None,
    voxel_volumes: Sequence[float] | None = None,
    classes: Collection[int] | None = None,
    metric: Metric | None = None,
    margin: float = 0.001,
    worse_share: float = 0.1,
) -> DecisionTable:
    """Return the rules that improve held-out predictions, with every measurement behind them.

    For each class, the candidates are tried one by one on top of the rules chosen so far; the best
    one is taken if it raises the mean metric by more than the margin and lowers it in no more than
    a share of the cases; then the others are tried again, until none is taken. A candidate for a
    region is tried before all others, by the mean metric of the classes of the region.

    A case in which a class is in neither the reference nor the prediction says nothing and is left
    out. If a rule removes a class from a case whose reference lacks it, that counts as a metric of
    1 against that of the false find.

    Args:
        predictions: Label maps that the network was not trained on (of the cross-validation), each
            `(x, y)` or `(x, y, z)`. Each is asked for by index when it is its turn, so a sequence
            that reads files need not hold more than one.
        references: The reference of each prediction, on the same grid.
        candidates: Rules to try: one without classes for every class by itself, one with classes
            for each of them by itself, one with a region for the region.
        spacings: For each case the distance of neighbouring voxels on each axis in mm; needed by
            rules in mm.
        voxel_volumes: For each case in mm³ (in 2D: mm²), where that is not the product of the
            spacing: of grids whose axes are not at right angles.
        classes: Classes to decide on; without it all that occur in a reference.
        metric: Metric of each class, higher is better; the Dice coefficient without it.
        margin: A rule must raise the mean by more than this.
        worse_share: A rule may lower the metric in no more than this share of the cases.

    Raises:
        InputError: There is no case, the numbers of cases differ, or a rule cannot be applied.
        ShapeError: A prediction and its reference differ in shape.
    """
    given = [one for one in (spacings, voxel_volumes) if one is not None]
    if not 0 < len(predictions) == len(references) or {*map(len, given)} - {len(predictions)}:
        raise InputError(
            f"there are {len(predictions)} predictions, {len(references)} references and "
            f"{'no' if spacings is None else len(spacings)} spacings; expected the same number of "
            "each (and of the voxel volumes, where given), at least one."
        )
    if not margin >= 0 or not 0 <= worse_share <= 1:
        raise InputError(
            f"margin is {margin} and worse_share is {worse_share}; expected a margin of at least 0 "
            "and a share from 0 to 1."
        )
    if classes is None:
        classes = {c for case in range(len(references)) for c in _classes_in(references[case])}
    judge = _Judge(
        predictions,
        references,
        spacings,
        voxel_volumes,
        metric or _dice,
        sorted({int(c) for c in classes}),
    )
    chosen: list[Rule] = []
    decisions: list[Decision] = []
    regions, singles = _trials(candidates, judge.classes)
    # Regions one after the other, as they may share classes; then all classes side by side.
    for targets in [*({region: rules} for region, rules in regions.items()), singles]:
        _search(judge, targets, chosen, decisions, margin=margin, worse_share=worse_share)
    return DecisionTable(
        rules=tuple(chosen),
        metric="dice" if metric is None else getattr(metric, "__name__", "custom"),
        cases=len(predictions),
        margin=margin,
        worse_share=worse_share,
        decisions=tuple(decisions),
        outcomes=_outcomes(judge, chosen),
    )


Target = tuple[int, ...]
Scores = Mapping[int, float]


@dataclass(frozen=True)
class _Judge:
    """The held-out cases and how they are judged."""

    predictions: Sequence[Any]
    references: Sequence[Any]
    spacings: Sequence[Sequence[float]] | None
    voxel_volumes: Sequence[float] | None
    metric: Metric
    classes: list[int]

    def case(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Return prediction and reference of a case, and of its grid what `apply_rules` takes."""
        prediction = _label_map(self.predictions[index])
        reference = _label_map(self.references[index])
        if prediction.shape != reference.shape:
            raise ShapeError(
                f"prediction {index} has the shape {prediction.shape} and its reference "
                f"{reference.shape}; expected the same grid."
            )
        given = {"spacing": self.spacings, "voxel_volume": self.voxel_volumes}
        grid = {name: values[index] for name, values in given.items() if values is not None}
        return prediction, reference, grid

    def compare(
        self, chosen: Sequence[Rule], trials: Mapping[Target, Sequence[Rule]]
    ) -> dict[tuple[Target, int], _Comparison]:
        """Return what each trial does after the chosen rules, by target and place in its list."""
        found: dict[tuple[Target, int], _Comparison] = defaultdict(_Comparison)
        for case in range(len(self.predictions)):
            prediction, reference, grid = self.case(case)
            base = apply_rules(prediction, chosen, **grid)
            without = self.metric(base, reference, self.classes)
            for group in _side_by_side(trials):
                rules = [trials[target][place] for target, place in group]
                result = apply_rules(base, rules, **grid)
                after = self.metric(result, reference, self.classes)
                for target, place in group:
                    found[target, place].add(target, without, after)
        return found


@dataclass
class _Comparison:
    """The metric of a target in each case, without and with a rule."""

    without: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def add(self, target: Target, without: Scores, after: Scores) -> None:
        pairs = [(without[label], after[label]) for label in target]
        # A class that is in neither map is not applicable; against a false find it is right.
        known = [
            (1.0 if math.isnan(a) else a, 1.0 if math.isnan(b) else b)
            for a, b in pairs
            if not (math.isnan(a) and math.isnan(b))
        ]
        if known:
            self.without.append(sum(a for a, _ in known) / len(known))
            self.after.append(sum(b for _, b in known) / len(known))

    @property
    def means(self) -> tuple[float | None, float | None]:
        if not self.without:
            return None, None
        count = len(self.without)
        return math.fsum(self.without) / count, math.fsum(self.after) / count

    @property
    def gain(self) -> float:
        first, second = self.means
        return 0.0 if first is None or second is None else second - first

    @property
    def worse(self) -> int:
        pairs = zip(self.without, self.after, strict=True)
        return sum(after < without for without, after in pairs)


def _trials(
    candidates: Iterable[Rule], classes: Sequence[int]
) -> tuple[dict[Target, list[Rule]], dict[Target, list[Rule]]]:
    """Return the rules to try for each region and for each class."""
    regions: dict[Target, list[Rule]] = defaultdict(list)
    singles: dict[Target, list[Rule]] = defaultdict(list)
    for rule in candidates:
        if rule.region is not None:
            if not set(rule.region) <= set(classes):
                raise InputError(
                    f"a candidate is for the region {list(rule.region)}, but the classes to decide "
                    f"on are {list(classes)}; expected a region of these."
                )
            regions[rule.region].append(rule)
            continue
        for label in rule.classes or classes:
            if label in classes:
                singles[label,].append(rule.for_class(label))
    return regions, singles


def _side_by_side(trials: Mapping[Target, Sequence[Rule]]) -> list[list[tuple[Target, int]]]:
    """Return the trials in groups that one application answers.

    Rules that each change one class and look at no other do not meet: one trial of each class goes
    together. Every other trial is a group of its own.
    """
    groups: list[list[tuple[Target, int]]] = []
    together: dict[int, list[tuple[Target, int]]] = defaultdict(list)
    for target, rules in trials.items():
        number = 0
        for place, rule in enumerate(rules):
            if rule.independent:
                together[number].append((target, place))
                number += 1
            else:
                groups.append([(target, place)])
    return [*together.values(), *groups]


def _search(
    judge: _Judge,
    trials: Mapping[Target, Sequence[Rule]],
    chosen: list[Rule],
    decisions: list[Decision],
    *,
    margin: float,
    worse_share: float,
) -> None:
    """Add the rules chosen for some targets, and every decision on the way."""
    remaining = {target: list(rules) for target, rules in trials.items()}
    number = 0
    while remaining:
        number += 1
        found = judge.compare(chosen, remaining)
        taken: dict[Target, int] = {}
        for target, rules in remaining.items():
            good = [
                place
                for place in range(len(rules))
                if found[target, place].gain > margin
                and found[target, place].worse <= worse_share * len(found[target, place].without)
            ]
            if good:  # of equally good ones the first candidate
                taken[target] = max(good, key=lambda place: found[target, place].gain)
            for place, rule in enumerate(rules):
                comparison = found[target, place]
                decisions.append(
                    Decision(
                        number,
                        target,
                        rule,
                        len(comparison.without),
                        *comparison.means,
                        comparison.worse,
                        taken.get(target) == place,
                    )
                )
        chosen += [remaining[target][place] for target, place in taken.items()]
        remaining = {
            target: rest
            for target, place in taken.items()
            if (rest := [rule for i, rule in enumerate(remaining[target]) if i != place])
        }


def _outcomes(judge: _Judge, chosen: Sequence[Rule]) -> tuple[Outcome, ...]:
    totals = {label: _Comparison() for label in judge.classes}
    for case in range(len(judge.predictions)):
        prediction, reference, grid = judge.case(case)
        before = judge.metric(prediction, reference, judge.classes)
        result = apply_rules(prediction, chosen, **grid)
        after = judge.metric(result, reference, judge.classes)
        for label, comparison in totals.items():
            comparison.add((label,), before, after)
    return tuple(
        Outcome(label, len(comparison.without), *comparison.means)
        for label, comparison in totals.items()
    )


def _dice(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], classes: Collection[int]
) -> dict[int, float]:
    """Return the Dice coefficient of each class; NaN where neither map holds it."""
    predicted, wanted = count_values(prediction), count_values(reference)
    common = count_values(prediction[prediction == reference])
    sums = {label: predicted.get(label, 0) + wanted.get(label, 0) for label in classes}
    return {
        label: 2 * common.get(label, 0) / total if total else math.nan
        for label, total in sums.items()
    }


def _classes_in(reference: Any) -> Iterable[int]:
    return (label for label in count_values(_label_map(reference)) if label)


def _label_map(labels: Any) -> npt.NDArray[Any]:
    array = np.asarray(check_label_map(labels))
    check_not_negative(array)
    return array
