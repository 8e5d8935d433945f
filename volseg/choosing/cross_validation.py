"""Cross-validation: each fold is held out once, and what is chosen is chosen on held-out cases.

What is told of a case was never learned from it. The network that segments it was trained on the
other folds, for as long as it was told to; the threshold and the temperature it is decided with are
chosen on the held-out cases of the other folds. Only rules of cleaning are chosen on all held-out
cases together, as nnU-Net does: they must raise the mean by a margin and harm few cases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from volseg.bundle import Bundle, open_bundle
from volseg.choosing.cleaning import choose_pooled_cleaning, record_cleaning
from volseg.choosing.combining import combine_folds
from volseg.choosing.cross_validation_folder import CrossValidationFolder
from volseg.choosing.cross_validation_plan import (
    CHOICES,
    CrossValidationPlan,
    plan_cross_validation,
)
from volseg.choosing.cross_validation_summary import summary_of, write_fold_table
from volseg.choosing.decisions import (
    TemperatureChoice,
    ThresholdChoice,
    choose_temperature,
    choose_threshold,
    record_decisions,
)
from volseg.choosing.evidence import CaseEvidence, gather_evidence
from volseg.choosing.held_out import LabelledCase, held_out_cases, reads_labels_as_they_are
from volseg.choosing.measurement import record_measurement
from volseg.choosing.origin import case_origin, labels_origin, uncleaned_origin
from volseg.choosing.prediction import predict_case
from volseg.choosing.withdrawing import withdraw_choices
from volseg.data import read_datalist
from volseg.evaluation import (
    CasePair,
    ClassScore,
    Evaluation,
    evaluate_case,
    label_of,
    length_unit,
    write_evaluation,
)
from volseg.io import grid_of, segmentation_suffix
from volseg.segmenter import Segmenter, choose_device
from volseg.training.progress import TrainingState
from volseg.training.runner import train_bundle


@dataclass(frozen=True)
class CrossValidationState:
    """Where a cross-validation is; given to the progress callable.

    Attributes:
        stage: ``training``, ``gathering``, ``choosing``, ``predicting``, ``combining``,
            ``finished``.
        fold: The fold at hand, if it is one.
        done: Cases, or thousandths of a training, that are done.
        total: All of them.
        detail: More in words.
        epoch_has_ended: Whether this tells of an epoch of a training rather than of a step.
    """

    stage: str
    fold: int | None
    done: int
    total: int
    detail: str = ""
    epoch_has_ended: bool = False


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation found.

    Attributes:
        folder: Where everything lies.
        folds: The bundle of each fold.
        evaluation: Of all held-out cases together, intervals by patient.
        evaluation_of_fold: Of each fold.
        threshold: Chosen on all held-out cases, for the ensemble.
        temperature: Likewise.
        ensemble: The folds as one bundle, if that was asked for.
    """

    folder: Path
    folds: Mapping[int, Bundle]
    evaluation: Evaluation
    evaluation_of_fold: Mapping[int, Evaluation]
    threshold: ThresholdChoice | None
    temperature: TemperatureChoice | None
    ensemble: Bundle | None


Progress = Callable[[CrossValidationState], None]


def cross_validate(
    bundle: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    folds: Iterable[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    choices: Iterable[str] = (),
    metric: str = "dice",
    probabilities: bool = False,
    ensemble: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> CrossValidation:
    """Train a bundle once a fold, segment each case by the network that has not seen it, and score.

    Called again, it goes on where it was stopped, in whatever way: what is finished is not done
    again, unless the files of a case have changed since, or what was asked for. ``output`` then
    holds ``fold<k>/`` (a bundle each), ``predictions/``, ``evaluation.csv`` and ``.json`` (all
    held-out cases), ``folds.csv`` and, as asked for, ``probabilities/`` and ``ensemble/`` (a
    bundle).

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        output: Where everything goes.
        folds: Those that are held out; all of the datalist by default.
        settings: Of training, as for `train_bundle`.
        choices: Some of threshold, temperature and cleaning, made on held-out cases and stored in
            the bundles: those of a fold are made on the other folds, those of the ensemble on all.
        metric: What a threshold is chosen by (`THRESHOLD_METRICS`).
        probabilities: Also write the probabilities of the held-out cases.
        ensemble: Make one bundle of the folds.
        device: As for `train_bundle`.
        progress: Called with where it is.

    Raises:
        InputError: The bundle, the data or the device are unusable, something else was begun in
            ``output``, or a choice cannot be made.
        OutputError: ``output`` cannot be written.
    """
    source = open_bundle(bundle)
    if device is not None:
        choose_device(device)  # which is refused before anything is begun
    place = CrossValidationFolder(output)
    plan = plan_cross_validation(
        source,
        data,
        folds=folds,
        settings=settings or {},
        choices=choices,
        metric=metric,
        probabilities=probabilities,
        ensemble=ensemble,
    )
    place.begin(plan)
    return _Run(plan, place, device, progress).run()


class _Run:
    """The stages of a cross-validation, in order."""

    def __init__(
        self,
        plan: CrossValidationPlan,
        place: CrossValidationFolder,
        device: str | None,
        progress: Progress | None,
    ) -> None:
        self._plan = plan
        self._place = place
        self._device = device
        self._progress = progress
        datalist = read_datalist(Path(plan.bundle) / "configs" / "datalist.json")
        self._patients = {case.case: case.patient for case in datalist}
        self._labels = {case.case: Path(plan.data) / case.label for case in datalist}
        self._plain_labels = reads_labels_as_they_are(open_bundle(plan.bundle))

    def run(self) -> CrossValidation:
        for fold in self._plan.folds:
            self._train(fold)
            self._withdraw(fold)
        threshold, temperature = self._decide()
        if "cleaning" in self._plan.choices:
            self._choose_cleaning()
        rows = {fold: self._predict(fold) for fold in self._plan.folds}
        of_fold = {fold: self._evaluation(own) for fold, own in rows.items()}
        pooled = self._evaluation([row for own in rows.values() for row in own])
        write_evaluation(pooled, self._place.evaluation)
        write_fold_table(self._place.folder / "folds.csv", of_fold, pooled)
        bundles = {fold: self._record(fold, of_fold[fold]) for fold in self._plan.folds}
        combined = self._combine(pooled, of_fold, threshold, temperature)
        self._tell("finished", None, 1, 1)
        return CrossValidation(
            folder=self._place.folder,
            folds=bundles,
            evaluation=pooled,
            evaluation_of_fold=of_fold,
            threshold=threshold,
            temperature=temperature,
            ensemble=combined,
        )

    def _tell(
        self,
        stage: str,
        fold: int | None,
        done: int,
        total: int,
        detail: str = "",
        *,
        epoch_has_ended: bool = False,
    ) -> None:
        self._place.tell(stage, fold, done, total, detail)
        if self._progress is not None:
            self._progress(CrossValidationState(stage, fold, done, total, detail, epoch_has_ended))

    def _train(self, fold: int) -> None:
        if self._place.trained(fold):
            return
        self._tell("training", fold, 0, 1000)

        def show(state: TrainingState) -> None:
            done = round(1000 * state.part_done)
            ended = state.epoch_has_ended
            self._tell("training", fold, done, 1000, state.describe(), epoch_has_ended=ended)

        train_bundle(
            self._plan.bundle,
            self._plan.data,
            self._place.fold(fold),
            fold=fold,
            device=self._device,
            settings=self._plan.settings,
            progress=show,
        )

    def _withdraw(self, fold: int) -> None:
        """Take back what an earlier run has chosen and this one is to be without."""
        source = open_bundle(self._plan.bundle)
        choices = [choice for choice in CHOICES if choice not in self._plan.choices]
        if choices and "composition" in source.metadata:
            withdraw_choices(self._place.fold(fold), source, choices)

    @cached_property
    def _cases(self) -> dict[int, list[LabelledCase]]:
        """The held-out cases of each fold."""
        return {
            fold: held_out_cases(open_bundle(self._place.fold(fold)), self._plan.data, fold=fold)
            for fold in self._plan.folds
        }

    def _decide(self) -> tuple[ThresholdChoice | None, TemperatureChoice | None]:
        """Choose threshold and temperature; each fold gets what the others say."""
        if not {"threshold", "temperature"} & set(self._plan.choices):
            return None, None
        evidence: list[CaseEvidence] = []
        for fold in self._plan.folds:
            self._tell("gathering", fold, 0, 1)
            evidence += gather_evidence(
                self._place.fold(fold),
                self._plan.data,
                fold=fold,
                device=self._device or "auto",
                kept=self._place.evidence(fold),
                progress=partial(self._tell, "gathering", fold),
            )
        for done, fold in enumerate(self._plan.folds, start=1):
            self._tell("choosing", fold, done, len(self._plan.folds), "threshold and temperature")
            others = [case for case in evidence if case.fold != fold]
            threshold, temperature = self._chosen(others)
            record_decisions(self._place.fold(fold), threshold=threshold, temperature=temperature)
        return self._chosen(evidence)

    def _chosen(
        self, evidence: Sequence[CaseEvidence]
    ) -> tuple[ThresholdChoice | None, TemperatureChoice | None]:
        threshold, temperature = None, None
        if "threshold" in self._plan.choices:
            threshold = choose_threshold(evidence, metric=self._plan.metric)
        if "temperature" in self._plan.choices:
            temperature = choose_temperature(evidence)
        return threshold, temperature

    def _choose_cleaning(self) -> None:
        places = {fold: self._place.fold(fold) for fold in self._plan.folds}
        made_of = [uncleaned_origin(map(open_bundle, places.values()))]
        made_of += [case_origin(case) for cases in self._cases.values() for case in cases]
        table = self._place.cleaning(made_of)
        if table is None:
            table = choose_pooled_cleaning(
                places,
                self._plan.data,
                device=self._device or "auto",
                progress=lambda done, total: self._tell("choosing", None, done, total, "cleaning"),
            )
            self._place.keep_cleaning(table, made_of)
        for folder in places.values():
            record_cleaning(folder, table)

    def _predict(self, fold: int) -> list[ClassScore]:
        """Return the scores of the held-out cases of a fold; those that are known are kept."""
        bundle = open_bundle(self._place.fold(fold))
        cases = self._cases[fold]
        origin = labels_origin(bundle)
        self._tell("predicting", fold, 0, len(cases))
        segmenter: Segmenter | None = None
        rows: list[ClassScore] = []
        for done, case in enumerate(cases, start=1):
            made_of = [origin, case_origin(case)]
            scores = self._place.scores(case.name, made_of)
            files = self._files(bundle, case)
            if scores is None or not all(path.exists() for path in files.values()):
                segmenter = segmenter or Segmenter(bundle.folder, device=self._device or "auto")
                self._place.drop_probabilities(case.name)  # of another state, if there are any
                prediction = predict_case(segmenter, case, **files)
                scores = evaluate_case(
                    prediction.numpy()[0],
                    case.reference(prediction),
                    labels=bundle.structures,
                    spacing=grid_of(prediction).affine.matrix[:-1, :-1],
                    ignore=bundle.ignore,
                    case=case.name,
                )
                self._place.keep_scores(case.name, scores, made_of)
            rows += scores
            self._tell("predicting", fold, done, len(cases))
        return rows

    def _files(self, bundle: Bundle, case: LabelledCase) -> dict[str, Path]:
        suffix = segmentation_suffix(bundle.spatial_dims)
        files = {"labels": self._place.predictions / f"{case.name}{suffix}"}
        if self._plan.probabilities:
            kind = ".nii.gz" if bundle.spatial_dims == 3 else ".zarr"
            files["probabilities"] = self._place.probabilities / f"{case.name}_probabilities{kind}"
        return files

    def _evaluation(self, rows: Sequence[ClassScore]) -> Evaluation:
        bundle = open_bundle(self._plan.bundle)
        places = {case: place for place, case in enumerate(self._patients)}  # of the datalist
        return Evaluation(
            rows=sorted(rows, key=lambda row: places[row.case]),
            labels={name: label_of(own) for name, own in bundle.structures.items()},
            surface_tolerance_mm=1.0,
            ignore=bundle.ignore,
            patients={row.case: self._patients[row.case] for row in rows},
            pairs=self._pairs({row.case for row in rows}) if self._plain_labels else {},
            length_unit=length_unit(self._labels.values()),
        )

    def _pairs(self, cases: Collection[str]) -> dict[str, CasePair]:
        """Return the files of cases, for those who look at them."""
        suffix = segmentation_suffix(open_bundle(self._plan.bundle).spatial_dims)
        return {
            case: CasePair(case, self._place.predictions / f"{case}{suffix}", label)
            for case, label in self._labels.items()
            if case in cases
        }

    def _record(self, fold: int, evaluation: Evaluation) -> Bundle:
        return record_measurement(self._place.fold(fold), self._plan.data, evaluation, fold=fold)

    def _combine(
        self,
        pooled: Evaluation,
        of_fold: Mapping[int, Evaluation],
        threshold: ThresholdChoice | None,
        temperature: TemperatureChoice | None,
    ) -> Bundle | None:
        """Make one bundle of the folds, if that was asked for and they are not the same ones."""
        if not self._plan.ensemble:
            return None
        self._tell("combining", None, 0, 1)
        members = {fold: self._place.fold(fold) for fold in self._plan.folds}
        figures = summary_of(pooled, of_fold)
        return combine_folds(self._place.ensemble, members, figures, threshold, temperature)
