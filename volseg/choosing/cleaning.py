"""Choosing how a bundle cleans its label maps by what that does to its held-out cases."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.atomic import write_text
from volseg.bundle import Bundle, composition_of, open_bundle, recompose, with_cleaning
from volseg.choosing.held_out import held_out_cases
from volseg.errors import BundleError
from volseg.io import grid_of
from volseg.metrics import count_structure_overlaps
from volseg.postprocess import DecisionTable, Metric, choose_rules, propose_rules
from volseg.segmenter import Segmenter

#: The piece that cleans by the rules of a table, and the table.
CLEANING_PIECE = "inference/decision_table"
CLEANING_TABLE = "configs/postprocessing.json"


def choose_cleaning(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    margin: float = 0.001,
    worse_share: float = 0.1,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> DecisionTable:
    """Choose the rules that improve what the network says of the held-out cases.

    The cases are segmented without any rule; the candidates of `volseg.postprocess.propose_rules`
    are then judged by Dice (`volseg.postprocess.choose_rules`), those for a label that several
    regions hold by the mean Dice of these. One case is in memory at a time.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        margin: A rule must raise the mean Dice by more than this.
        worse_share: A rule may lower the Dice in no more than this share of the cases.
        device: As for `Segmenter`.
        progress: Called as ``progress(done, total)`` with cases segmented.

    Raises:
        InputError: The bundle or the data are unusable, or the bundle cannot leave its label maps
            uncleaned.
    """
    return choose_pooled_cleaning(
        {fold: bundle},
        data,
        margin=margin,
        worse_share=worse_share,
        device=device,
        progress=progress,
    )


def choose_pooled_cleaning(
    bundles: Mapping[int, str | Path],
    data: str | Path,
    *,
    margin: float = 0.001,
    worse_share: float = 0.1,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> DecisionTable:
    """Choose rules for several bundles, each of which has another fold held out; see above.

    Args:
        bundles: Names or folders by the fold they were not trained on.
        data: As for `choose_cleaning`, as the others.
        margin: A rule must raise the mean Dice by more than this.
        worse_share: A rule may lower the Dice in no more than this share of the cases.
        device: As for `Segmenter`.
        progress: Called as ``progress(done, total)`` with cases segmented.

    Raises:
        InputError: As for `choose_cleaning`.
    """
    opened = {fold: open_bundle(bundle) for fold, bundle in bundles.items()}
    first = next(iter(opened.values()))
    cases = {fold: held_out_cases(bundle, data, fold=fold) for fold, bundle in opened.items()}
    done, total = 0, sum(map(len, cases.values()))
    with tempfile.TemporaryDirectory(prefix="volseg-") as folder:
        predictions, references = (
            _Stored(Path(folder), "prediction"),
            _Stored(Path(folder), "reference"),
        )
        grids = []
        for fold, bundle in opened.items():
            segmenter = Segmenter(bundle.folder, device=device, clean=False)
            for case in cases[fold]:
                prediction = segmenter.segment(case.image)
                references.append(case.reference(prediction))
                predictions.append(prediction.numpy()[0])
                grids.append(grid_of(prediction))
                done += 1
                if progress is not None:
                    progress(done, total)
        spacings = [grid.spacing for grid in grids]
        volumes = [grid.voxel_volume for grid in grids]
        labelled = _Labelled(references, first.ignore)
        return choose_rules(
            predictions,
            references,
            propose_rules(labelled, spacings=spacings, voxel_volumes=volumes),
            spacings=spacings,
            voxel_volumes=volumes,
            classes=list(first.labels.values()),
            metric=_metric(first),
            margin=margin,
            worse_share=worse_share,
        )


def record_cleaning(bundle: str | Path, table: DecisionTable) -> Bundle:
    """Make the chosen rules the bundle's cleaning, and keep the table in it.

    The bundle is composed again with the rules of ``configs/postprocessing.json`` in place of its
    own, its version raised and its changelog extended.

    Raises:
        BundleError: The bundle was not composed, or its inference was edited: only the table is
            written, and not applied.
        OutputError: A file cannot be written.
    """
    opened = open_bundle(bundle)
    text = json.dumps(table.to_json(), indent=2, allow_nan=False) + "\n"
    try:
        composition = composition_of(opened.metadata, opened.name)
        return recompose(
            opened,
            with_cleaning(composition, CLEANING_PIECE),
            _changelog(table),
            files={CLEANING_TABLE: text},
        )
    except BundleError as error:
        write_text(opened.folder / CLEANING_TABLE, text)
        raise BundleError(
            f"the rules are written to {opened.folder / CLEANING_TABLE} but not applied by the "
            f"bundle: {error}"
        ) from error


@dataclass
class _Stored(Sequence[npt.NDArray[Any]]):
    """Label maps in a folder, each read when it is asked for."""

    folder: Path
    kind: str
    number: int = 0

    def append(self, labels: npt.NDArray[Any]) -> None:
        np.savez_compressed(self._path(self.number), labels=labels)
        self.number += 1

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: Any) -> Any:
        with np.load(self._path(index)) as file:
            return file["labels"]

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.kind}{index}.npz"


@dataclass
class _Labelled(Sequence[npt.NDArray[Any]]):
    """Label maps without what nobody labelled."""

    references: Sequence[npt.NDArray[Any]]
    ignore: int | None

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, index: Any) -> Any:
        labels = self.references[index]
        return labels if self.ignore is None else labels * (labels != self.ignore)


def _metric(bundle: Bundle) -> Metric | None:
    """Return what rules for a label are judged by; None for the Dice of the label itself."""
    structures, ignore = bundle.structures, bundle.ignore
    if not bundle.regions and ignore is None:
        return None

    def dice(
        prediction: npt.NDArray[Any], reference: npt.NDArray[Any], classes: Collection[int]
    ) -> dict[int, float]:
        overlaps = count_structure_overlaps(prediction, reference, structures, ignore=ignore)
        found = {}
        for label in classes:
            scores = [overlaps[name].dice for name, own in structures.items() if label in own]
            known = [score for score in scores if not math.isnan(score)]
            found[label] = sum(known) / len(known) if known else math.nan
        return found

    return dice


def _changelog(table: DecisionTable) -> str:
    rules = ", ".join(sorted({rule.kind.replace("_", " ") for rule in table.rules}))
    return (
        f"cleaning chosen on {table.cases} held-out cases: {rules or 'no rule helps'}; "
        "weights as before"
    )
