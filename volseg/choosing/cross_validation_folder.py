"""The folder of a cross-validation: what it was told to do, what is done, and how far it is."""

from __future__ import annotations

import glob
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volseg.atomic import write_text
from volseg.bundle import open_bundle
from volseg.choosing.cross_validation_plan import CrossValidationPlan
from volseg.data import read_datalist
from volseg.errors import InputError, OutputError
from volseg.evaluation import ClassScore, label_of
from volseg.postprocess import DecisionTable
from volseg.training.copying import begun_from

_PLAN = "cross_validation.json"
_STATUS = "status.json"
_CLEANING = "cleaning.json"
_VERSION = 1
#: What a run may be told otherwise when it is gone on with; training is as it was.
_LATER = ("folds", "choices", "metric", "probabilities", "ensemble")
_SECONDS = 1.0
# Columns of scores that hold no number.
_TEXTS = ("case", "name")


@dataclass(frozen=True)
class FoldStatus:
    """How far a fold is.

    Attributes:
        fold: Its number.
        trained: Whether its training has ended.
        predicted: Held-out cases that are segmented and scored.
        cases: All held-out cases.
    """

    fold: int
    trained: bool
    predicted: int
    cases: int


@dataclass(frozen=True)
class CrossValidationStatus:
    """How far a cross-validation is.

    Attributes:
        folds: Each of them.
        activity: What was being done when it was last heard of, with ``seconds`` since then.
        finished: Whether all is done.
    """

    folds: tuple[FoldStatus, ...]
    activity: Mapping[str, Any]
    finished: bool


class CrossValidationFolder:
    """Where everything lies.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self.predictions = self.folder / "predictions"
        self.probabilities = self.folder / "probabilities"
        self.evaluation = self.folder / "evaluation.csv"
        self.ensemble = self.folder / "ensemble"
        self._told = 0.0

    def fold(self, fold: int) -> Path:
        """Return the folder of the bundle of a fold."""
        return self.folder / f"fold{fold}"

    def evidence(self, fold: int) -> Path:
        """Return the folder of what the held-out cases of a fold say."""
        return self.fold(fold) / "evaluation" / "evidence"

    def trained(self, fold: int) -> bool:
        """Return whether the training of a fold has ended."""
        return (self.fold(fold) / "models" / "model.pt").is_file()

    def plan(self) -> CrossValidationPlan | None:
        """Return what was begun here; None if nothing was.

        Raises:
            InputError: The file that says it is damaged.
        """
        path = self.folder / _PLAN
        if not path.is_file():
            return None
        try:
            return CrossValidationPlan.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no plan of a cross-validation ({type(error).__name__}: {error})."
            ) from error

    def begin(self, plan: CrossValidationPlan) -> None:
        """Write down what is done here.

        Raises:
            InputError: Something else was begun here.
            OutputError: Something else is here, or it cannot be written.
        """
        before = self.plan()
        if before is None and self.folder.exists():
            if not self.folder.is_dir() or any(self.folder.iterdir()):
                raise OutputError(
                    f"{self.folder} is not empty and holds no cross-validation: choose another "
                    "folder."
                )
        elif before is not None:
            old, new = asdict(before), asdict(plan)
            if before.configs_sha256 in begun_from(open_bundle(plan.bundle)):
                old["configs_sha256"] = plan.configs_sha256  # of an earlier version
            for name in old.keys() - set(_LATER):
                if old[name] != new[name]:
                    raise InputError(
                        f"the cross-validation in {self.folder} was begun with another "
                        f"{name.replace('_sha256', '')} ({old[name]!r}, now {new[name]!r}): go on "
                        "as it was begun, or choose another folder."
                    )
        self._write(_PLAN, {"volseg_cross_validation": _VERSION, **asdict(plan)})

    def tell(self, stage: str, fold: int | None, done: int, total: int, detail: str) -> None:
        """Note how far it is; where something begins or ends, and else once a second at most."""
        now = time.time()
        if now - self._told < _SECONDS and done not in (0, total):
            return
        self._told = now
        activity = {"stage": stage, "fold": fold, "done": done, "total": total, "detail": detail}
        self._write(_STATUS, {**activity, "time": round(now, 1)})

    def scores(self, case: str, made_of: Sequence[str]) -> list[ClassScore] | None:
        """Return the scores of a case, if they were made of the same (`volseg.choosing.origin`)."""
        entries = self._kept(self._case(case), made_of)
        return None if entries is None else [_score(row) for row in entries["rows"]]

    def keep_scores(self, case: str, rows: Sequence[ClassScore], made_of: Sequence[str]) -> None:
        """Note that a case is predicted and scored."""
        entries = {"made_of": list(made_of), "rows": [_plain(asdict(row)) for row in rows]}
        self._write(str(self._case(case).relative_to(self.folder)), entries)

    def cleaning(self, made_of: Sequence[str]) -> DecisionTable | None:
        """Return the rules that were chosen, if that was for the same cases and label maps."""
        path = self.folder / _CLEANING
        entries = self._kept(path, made_of)
        return (
            None if entries is None else DecisionTable.from_json(entries["table"], where=str(path))
        )

    def keep_cleaning(self, table: DecisionTable, made_of: Sequence[str]) -> None:
        """Note the rules that were chosen."""
        self._write(_CLEANING, {"made_of": list(made_of), "table": table.to_json()})

    def drop_probabilities(self, case: str) -> None:
        """Remove the probabilities of a case, which is about to be predicted anew."""
        for path in self.probabilities.glob(f"{glob.escape(case)}_probabilities.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @staticmethod
    def _kept(path: Path, made_of: Sequence[str]) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return entries if entries.get("made_of") == list(made_of) else None

    def _case(self, case: str) -> Path:
        return self.folder / "cases" / f"{case}.json"

    def _write(self, name: str, entries: Mapping[str, Any]) -> None:
        write_text(self.folder / name, json.dumps(entries, allow_nan=False) + "\n")


def cross_validation_status(folder: str | Path) -> CrossValidationStatus:
    """Return how far a cross-validation is, running or not.

    Raises:
        InputError: There is none in the folder.
    """
    place = CrossValidationFolder(folder)
    plan = place.plan()
    if plan is None:
        raise InputError(f"there is no cross-validation in {place.folder}.")
    datalist = read_datalist(Path(plan.bundle) / "configs" / "datalist.json")
    folds = []
    for fold in plan.folds:
        cases = [case.case for case in datalist if case.fold == fold]
        predicted = sum(place._case(case).is_file() for case in cases)
        folds.append(FoldStatus(fold, place.trained(fold), predicted, len(cases)))
    path = place.folder / _STATUS
    activity = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if activity:
        activity["seconds"] = round(max(0.0, time.time() - activity.pop("time")), 1)
    return CrossValidationStatus(tuple(folds), activity, activity.get("stage") == "finished")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON can hold it: what is no number becomes its name."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _score(row: Mapping[str, Any]) -> ClassScore:
    """Return the row that `_plain` gave."""
    values: dict[str, Any] = {
        name: float(value) if name not in _TEXTS and isinstance(value, str) else value
        for name, value in row.items()
    }
    return ClassScore(**{**values, "label": label_of(values["label"])})
