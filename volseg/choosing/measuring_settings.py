"""Segmenting held-out cases with many settings, fairly timed, going on after a stop."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volseg.atomic import write_text
from volseg.choosing.held_out import LabelledCase
from volseg.choosing.settings import Setting
from volseg.errors import InputError, MemoryLimitError, MissingPackageError, OutputError
from volseg.metrics import count_structure_overlaps
from volseg.segmenter import Segmenter

#: Called as ``progress(done, total, what)`` with cases x settings, and what is being done.
TuningProgress = Callable[[int, int, str], None]
#: What makes a segmenter with a setting.
Making = Callable[[Setting], Segmenter]

_ROUNDS = 5


@dataclass(frozen=True)
class Measurement:
    """One case segmented with one setting.

    Attributes:
        case: Name of the case.
        dice: Dice coefficient by class name; None where neither map holds the class.
        seconds: From the path of the image to the label map.
    """

    case: str
    dice: Mapping[str, float | None]
    seconds: float


class MeasurementFile:
    """What was measured so far, a line each as it comes, so that tuning can go on after a stop.

    Args:
        path: The file; missing folders are made.
        plan: What is measured; plain values.
        resume: Go on with what is there, if there is any; otherwise it is dropped.

    Raises:
        InputError: What is there was measured by another plan.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.measured: dict[Setting, list[Measurement]] = {}
        self.failed: dict[Setting, str] = {}
        lines = _lines(path) if resume else []
        plan = dict(json.loads(json.dumps(plan)))
        if lines and lines[0] != plan:
            differing = [name for name in plan if lines[0].get(name) != plan[name]]
            raise InputError(
                f"{path} holds measurements with another {' and '.join(differing)}: leave "
                "--resume away to measure anew."
            )
        for line in lines[1:]:
            self._take(line)
        text = "".join(json.dumps(line) + "\n" for line in lines or [plan])
        write_text(path, text)

    def has(self, setting: Setting, case: str) -> bool:
        """Return whether a case is measured with a setting, or never will be."""
        known = (measurement.case for measurement in self.measured.get(setting, ()))
        return setting in self.failed or case in known

    def add(self, setting: Setting, measurement: Measurement) -> None:
        """Keep a measurement."""
        self._append({"setting": asdict(setting), **asdict(measurement)})

    def fail(self, setting: Setting, reason: str) -> None:
        """Keep why a setting cannot be measured."""
        self._append({"setting": asdict(setting), "reason": reason})

    def _append(self, line: Mapping[str, Any]) -> None:
        self._take(line)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path} ({error.strerror}): free space and go on with --resume."
            ) from error

    def _take(self, line: Mapping[str, Any]) -> None:
        plain = line["setting"]
        setting = Setting(
            tuple(plain["tile"]), plain["overlap"], tuple(plain["mirror_axes"]), plain["precision"]
        )
        if "reason" in line:
            self.failed[setting] = line["reason"]
        else:
            measurement = Measurement(line["case"], line["dice"], line["seconds"])
            self.measured.setdefault(setting, []).append(measurement)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; a last one that was cut off is left out."""
    lines = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
    return lines


def measure_settings(
    making: Making,
    settings: Sequence[Setting],
    cases: Sequence[LabelledCase],
    measurements: MeasurementFile,
    *,
    progress: TuningProgress | None = None,
) -> None:
    """Segment every case with every setting that has not been measured yet.

    Settings take turns, so that a machine that becomes slower becomes so for all. One predictor is
    in memory at a time; it is made and has computed a tile before time is taken.

    Args:
        making: What makes a segmenter with a setting.
        settings: What to try; one that cannot be had or does not fit into memory is kept with the
            reason.
        cases: What to segment.
        measurements: What was measured before, and receives what is measured.
        progress: Called before each measurement.

    Raises:
        InputError: A case cannot be read.
        OutputError: A measurement cannot be written.
    """

    def report(what: str) -> None:
        done = sum(measurements.has(s, case.name) for s in settings for case in cases)
        if progress is not None:
            progress(done, len(settings) * len(cases), what)

    rehearsed = False
    for group, some in _turns(settings, cases):
        runs = [
            (case, setting)
            for case in some
            for setting in group
            if not measurements.has(setting, case.name)
        ]
        if runs:
            report(f"preparing {group[0].describe()}")
            ran = _measure_group(making, group, runs, measurements, report, rehearse=not rehearsed)
            rehearsed = rehearsed or ran
    report("done")


def _measure_group(
    making: Making,
    group: Sequence[Setting],
    runs: Sequence[tuple[LabelledCase, Setting]],
    measurements: MeasurementFile,
    report: Callable[[str], None],
    *,
    rehearse: bool,
) -> bool:
    """Segment cases with settings of one tile and precision; return whether one was rehearsed."""
    try:
        segmenter = making(group[0])
        segmenter.warm_up()
    except (InputError, MissingPackageError, MemoryError, RuntimeError) as error:
        for setting in group:
            measurements.fail(setting, _reason(error))
        return False
    segmenters = {setting: segmenter.with_settings(setting.options()) for setting in group}
    for case, setting in runs:
        if setting not in measurements.failed:
            report(setting.describe())
            try:
                if rehearse:  # the first case of a process loads what all need
                    segmenters[setting].segment(case.image)
                    rehearse = False
                measurements.add(setting, _segmented(segmenters[setting], case))
            except (MemoryLimitError, MemoryError, RuntimeError) as error:
                measurements.fail(setting, _reason(error))
    return not rehearse


def _turns(
    settings: Sequence[Setting], cases: Sequence[LabelledCase]
) -> Iterator[tuple[list[Setting], Sequence[LabelledCase]]]:
    """Return what is done with one predictor, in turns: settings of one tile and precision."""
    groups: dict[Any, list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.tile, setting.precision), []).append(setting)
    rounds = min(_ROUNDS, len(cases))
    for turn in range(rounds):
        # To and fro, so that no setting is always the first.
        step = 1 if turn % 2 == 0 else -1
        for group in list(groups.values())[::step]:
            yield group[::step], cases[turn::rounds]


def _segmented(segmenter: Segmenter, case: LabelledCase) -> Measurement:
    started = time.perf_counter()
    labels = segmenter.segment(case.image)
    seconds = time.perf_counter() - started
    reference = case.reference(labels)
    bundle = segmenter.bundle
    overlaps = count_structure_overlaps(
        labels.numpy()[0], reference, bundle.structures, ignore=bundle.ignore
    )
    dice = {name: None if overlap.is_empty else overlap.dice for name, overlap in overlaps.items()}
    return Measurement(case.name, dice, seconds)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
