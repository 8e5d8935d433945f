"""What the probabilities of held-out cases say, kept small: to choose how a bundle decides."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.atomic import replacing
from volseg.bundle import Bundle, open_bundle
from volseg.choosing.held_out import LabelledCase, held_out_cases
from volseg.choosing.origin import case_origin, probabilities_origin
from volseg.errors import InputError
from volseg.inference import Decision, SpooledArray
from volseg.io import open_volume
from volseg.segmenter import Maps, Segmenter

#: Thresholds of a probability that are told apart.
THRESHOLDS = np.arange(1, 200) / 200
#: Voxels that are drawn of a case, all alike, to fit a temperature to.
SAMPLE = 20_000
# Voxels whose probabilities are in memory at a time.
_BLOCK = 1 << 22


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
        made_of: Digest of network and files, where that matters.
    """

    case: str
    fold: int
    true: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    voxels: int
    probabilities: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]
    made_of: str = ""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **vars(self))

    @classmethod
    def kept(cls, path: Path, made_of: str) -> CaseEvidence | None:
        """Return what was written; None if it is not there or damaged, or was made of others."""
        try:
            with np.load(path) as file:
                entries = {name: file[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        plain = {name: entries[name].item() for name in ("case", "fold", "voxels", "made_of")}
        return cls(**{**entries, **plain}) if plain["made_of"] == made_of else None


def gather_evidence(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    device: str = "auto",
    kept: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseEvidence]:
    """Return what the held-out cases of a bundle say; the probabilities of one are on disk.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        device: As for `Segmenter`.
        kept: Folder to keep each case in, which is gathered again only where its files or the
            network have changed; for bundles that were composed.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: The bundle was trained on these cases, it gives no probabilities, or the data
            are unusable.
    """
    opened = open_bundle(bundle)
    cases = held_out_cases(opened, data, fold=fold)
    segmenter: Segmenter | None = None
    found = []
    network = "" if kept is None else probabilities_origin(opened)
    for done, case in enumerate(cases, start=1):
        path = None if kept is None else kept / f"{case.name}.npz"
        made_of = "" if path is None else f"{network} {case_origin(case)}"
        evidence = None if path is None else CaseEvidence.kept(path, made_of)
        if evidence is None:
            segmenter = segmenter or Segmenter(opened.folder, device=device, clean=False)
            evidence = replace(_evidence(segmenter, case, fold), made_of=made_of)
            if path is not None:
                evidence.save(path)
        found.append(evidence)
        if progress is not None:
            progress(done, len(cases))
    return found


def tempered(
    probabilities: npt.NDArray[Any], temperature: float, *, exclusive: bool
) -> npt.NDArray[Any]:
    """Return probabilities ``(channels, ...)`` at a temperature.

    What `volseg.inference.Decision` makes of them, for arrays in memory.

    Args:
        probabilities: In [0, 1].
        temperature: Above 1 less sure, below 1 surer.
        exclusive: Whether the channels are classes, which sum to one; else each is a region.
    """
    raised = probabilities ** (1 / temperature)
    if exclusive:
        whole = raised.sum(0, keepdims=True)
    else:
        whole = raised + np.maximum(1 - probabilities, 0) ** (1 / temperature)
    found: npt.NDArray[Any] = raised / whole
    return found


def _evidence(segmenter: Segmenter, case: LabelledCase, fold: int) -> CaseEvidence:
    if segmenter.decision is None:
        raise InputError(
            f"the bundle {segmenter.bundle.name} uses transforms that need the whole volume at "
            "once: it gives no probabilities to choose by."
        )
    with open_volume(case.image) as volume:
        shape = (segmenter.bundle.out_channels, *volume.grid.shape)
    # Of a large volume with many classes they are larger than memory.
    with SpooledArray(shape, np.float32) as stored:
        prediction = segmenter.segment(case.image, maps=Maps(probabilities=stored))
        reference = case.reference(prediction)
        found = _told(stored, segmenter.decision, reference, segmenter.bundle, case.name)
        return CaseEvidence(case=case.name, fold=fold, **found)


def _told(
    stored: SpooledArray, decision: Decision, reference: npt.NDArray[Any], bundle: Bundle, name: str
) -> dict[str, Any]:
    """Return what probabilities say of a reference, by the fields of `CaseEvidence`."""
    structures = [list(own) for own in bundle.structures.values()]
    exclusive = decision.exclusive
    # Of more than two classes none has a threshold; of two the first channel is the background.
    judged = [] if exclusive and len(structures) > 1 else structures
    first = 1 if exclusive else 0
    true, false = np.zeros((2, len(judged), len(THRESHOLDS)), np.int64)
    present = np.zeros(len(judged), np.int64)
    drawn, voxels = _drawn(reference, bundle.ignore, name)
    order = np.argsort(drawn)
    probabilities = np.empty((stored.shape[0], len(drawn)), np.float32)
    for planes in _blocks(reference.shape):
        values = stored[:, planes].reshape(len(probabilities), -1)
        if decision.temperature != 1:  # back to what the network gives
            values = tempered(values, 1 / decision.temperature, exclusive=exclusive)
        labels = reference[planes].ravel()
        counted = np.ones(len(labels), bool) if bundle.ignore is None else labels != bundle.ignore
        for row, own in enumerate(judged):
            holds = np.isin(labels, own)
            said = values[first + row]
            true[row] += _above(said[holds & counted])
            false[row] += _above(said[~holds & counted])
            present[row] += (holds & counted).sum()
        start = planes.start * math.prod(reference.shape[1:])
        low, high = np.searchsorted(drawn, [start, start + len(labels)], sorter=order)
        here = order[low:high]
        probabilities[:, here] = values[:, drawn[here] - start]
    labels = reference.ravel()[drawn]
    return {
        "true": true,
        "false": false,
        "present": present,
        "voxels": voxels,
        "probabilities": probabilities,
        "targets": labels if exclusive else np.stack([np.isin(labels, own) for own in structures]),
    }


def _drawn(
    reference: npt.NDArray[Any], ignore: int | None, name: str
) -> tuple[npt.NDArray[np.intp], int]:
    """Return places of voxels in a case, the same in every run, and how many are labelled."""
    labelled = None if ignore is None else np.flatnonzero(reference != ignore)
    voxels = reference.size if labelled is None else len(labelled)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = random.choice(voxels, min(SAMPLE, voxels), replace=False)
    return drawn if labelled is None else labelled[drawn], voxels


def _blocks(shape: Sequence[int]) -> Iterator[slice]:
    """Yield parts of a volume, along its first axis."""
    planes = max(1, _BLOCK // math.prod(shape[1:]))
    for start in range(0, shape[0], planes):
        yield slice(start, min(start + planes, shape[0]))


def _above(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return how many values are above each of `THRESHOLDS`."""
    places = np.searchsorted(THRESHOLDS, values, side="left")  # thresholds below the value
    counts = np.bincount(places, minlength=len(THRESHOLDS) + 1)
    above: npt.NDArray[np.int64] = counts[::-1].cumsum()[::-1][1:]
    return above
