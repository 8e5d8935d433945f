"""What the probabilities of held-out cases say, kept small: to choose how a bundle decides."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.atomic import replacing
from volseg.bundle import open_bundle
from volseg.choosing.held_out import LabelledCase, held_out_cases
from volseg.errors import InputError
from volseg.io import open_volume
from volseg.segmenter import Maps, Segmenter

#: Thresholds of a probability that are told apart.
THRESHOLDS = np.arange(1, 200) / 200
#: Voxels that are drawn of a case, all alike, to fit a temperature to.
SAMPLE = 20_000


@dataclass(frozen=True)
class CaseEvidence:
    """What a case says of thresholds, and a sample of its voxels.

    Attributes:
        case: Its name.
        fold: That it is in, which the network was not trained on.
        true: Voxels of a structure whose probability is above a threshold,
            ``(structures, thresholds)``: of the foreground of two classes, or of each region.
        false: Voxels of others whose probability is.
        present: Voxels of each structure.
        voxels: All that are labelled.
        probabilities: Of the sampled voxels as the network gives them, ``(channels, sample)``.
        targets: Labels of these ``(sample,)``; of regions whether they hold, as probabilities.
    """

    case: str
    fold: int
    true: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    voxels: int
    probabilities: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **vars(self))

    @classmethod
    def load(cls, path: Path) -> CaseEvidence:
        """Return what was written.

        Raises:
            InputError: The file is damaged.
        """
        try:
            with np.load(path) as file:
                entries = {name: file[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path} is damaged ({error}): remove it, and run again.") from error
        plain = {name: entries[name].item() for name in ("case", "fold", "voxels")}
        return cls(**{**entries, **plain})


def gather_evidence(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    device: str = "auto",
    kept: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseEvidence]:
    """Return what the held-out cases of a bundle say; one is in memory at a time.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        device: As for `Segmenter`.
        kept: Folder to keep each case in, where it is not gathered again.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: The bundle was trained on these cases, it gives no probabilities, or the data
            are unusable.
    """
    opened = open_bundle(bundle)
    cases = held_out_cases(opened, data, fold=fold)
    segmenter: Segmenter | None = None
    found = []
    for done, case in enumerate(cases, start=1):
        path = None if kept is None else kept / f"{case.name}.npz"
        if path is not None and path.is_file():
            found.append(CaseEvidence.load(path))
        else:
            segmenter = segmenter or Segmenter(opened.folder, device=device, clean=False)
            found.append(_evidence(segmenter, case, fold))
            if path is not None:
                found[-1].save(path)
        if progress is not None:
            progress(done, len(cases))
    return found


def tempered(
    probabilities: npt.NDArray[Any], temperature: float, *, exclusive: bool
) -> npt.NDArray[Any]:
    """Return probabilities ``(channels, ...)`` at a temperature.

    What `volseg.inference.Decision` makes of them, for arrays in memory.
    """
    raised = probabilities ** (1 / temperature)
    if exclusive:
        whole = raised.sum(0, keepdims=True)
    else:
        whole = raised + np.maximum(1 - probabilities, 0) ** (1 / temperature)
    found: npt.NDArray[Any] = raised / whole
    return found


def _evidence(segmenter: Segmenter, case: LabelledCase, fold: int) -> CaseEvidence:
    decision = segmenter.decision
    if decision is None:
        raise InputError(
            f"the bundle {segmenter.bundle.name} uses transforms that need the whole volume at "
            "once: it gives no probabilities to choose by."
        )
    with open_volume(case.image) as volume:
        shape = volume.grid.shape
    probabilities = np.empty((segmenter.bundle.out_channels, *shape), np.float32)
    prediction = segmenter.segment(case.image, maps=Maps(probabilities=probabilities))
    reference = case.reference(prediction)
    counted = np.ones(shape, bool)
    if segmenter.bundle.ignore is not None:
        counted = reference != segmenter.bundle.ignore
    values, labels = probabilities[:, counted], reference[counted]
    exclusive = decision.regions is None
    if decision.temperature != 1:  # back to what the network gives
        values = tempered(values, 1 / decision.temperature, exclusive=exclusive)
    truth = np.stack([np.isin(labels, list(own)) for own in segmenter.bundle.structures.values()])
    structures: list[tuple[Any, Any]] = []  # of more than two classes none has a threshold
    if not exclusive:
        structures = list(zip(values, truth, strict=True))
    elif len(values) == 2:
        structures = [(values[1], truth[0])]
    thresholds = (len(structures), len(THRESHOLDS))
    true, false = np.zeros(thresholds, np.int64), np.zeros(thresholds, np.int64)
    for row, (said, own) in enumerate(structures):
        true[row], false[row] = _above(said[own]), _above(said[~own])
    # The same voxels in every run.
    random = np.random.default_rng(zlib.crc32(case.name.encode()))
    drawn = random.permutation(len(labels))[:SAMPLE]
    return CaseEvidence(
        case=case.name,
        fold=fold,
        true=true,
        false=false,
        present=np.array([own.sum() for _, own in structures], np.int64),
        voxels=len(labels),
        probabilities=values[:, drawn],
        targets=labels[drawn] if exclusive else truth[:, drawn],
    )


def _above(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return how many values are above each of `THRESHOLDS`."""
    places = np.searchsorted(THRESHOLDS, values, side="left")  # thresholds below the value
    counts = np.bincount(places, minlength=len(THRESHOLDS) + 1)
    above: npt.NDArray[np.int64] = counts[::-1].cumsum()[::-1][1:]
    return above
