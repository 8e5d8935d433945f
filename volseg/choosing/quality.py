"""Learning what is usual for the cases of a bundle, for the quality checks of later ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from volseg.atomic import write_text
from volseg.bundle import Bundle, composition_of, open_bundle, recompose
from volseg.choosing.held_out import held_out_cases, training_cases
from volseg.choosing.json_rows import json_by_rows
from volseg.errors import BundleError
from volseg.geometry import Affine
from volseg.io import affine_of, meta_tensor, open_volume, read_image
from volseg.quality import (
    QUALITY_FILE,
    CaseMeasurements,
    QualityLimits,
    learn_limits,
    measure_case,
)
from volseg.segmenter import Maps, Segmenter

_PATH = f"configs/{QUALITY_FILE}"


def learn_quality(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> QualityLimits:
    """Return what is usual: in training images under their labels, and in held-out predictions.

    How sure the networks are is learned from the held-out predictions alone. Nothing is learned
    from labels that leave voxels out (the bundle's value to ignore): sizes would be too small.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        device: As for `Segmenter`.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: The bundle or the data are unusable, or there are too few cases.
    """
    segmenter = Segmenter(bundle, device=device)
    known = training_cases(segmenter.bundle, data, fold=fold)
    unseen = held_out_cases(segmenter.bundle, data, fold=fold)
    found, partly = [], 0
    for done, case in enumerate([*known, *unseen], start=1):
        image = read_image(case.image)
        if case in known:
            labels = as_predicted(segmenter.bundle, case.reference(image))
            if labels is None:
                partly += 1
            else:
                found.append(_measured(segmenter, image, labels, {}))
        else:
            found.append(_predicted(segmenter, image))
        if progress is not None:
            progress(done, len(known) + len(unseen))
    about = {
        "training_labels": len(known) - partly,
        "held_out_predictions": len(unseen),
        "fold": fold,
    }
    return learn_limits(found, about=about)


def as_predicted(bundle: Bundle, classes: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the label map that a perfect network would give; None if labels leave voxels out.

    Args:
        bundle: The bundle; of regions, each voxel gets the label of the last one that holds it.
        classes: What the label file says.
    """
    if bundle.ignore is not None and (classes == bundle.ignore).any():
        return None
    if not bundle.regions:
        return classes
    table = np.zeros(1 + int(classes.max()), classes.dtype)
    written = set(bundle.labels.values())
    sets = list(bundle.regions.values())
    for place, values in enumerate(sets):
        label = written.intersection(values).difference(*sets[place + 1 :]).pop()
        table[[value for value in values if value < len(table)]] = label
    labels: npt.NDArray[Any] = table[classes]
    return labels


def write_quality(bundle: str | Path, limits: QualityLimits) -> Bundle:
    """Put what is usual into a bundle that was just trained, and return it.

    Raises:
        OutputError: The file cannot be written.
    """
    opened = open_bundle(bundle)
    write_text(opened.folder / _PATH, json_by_rows(limits.to_json(), "measures"))
    return open_bundle(opened.folder)


def record_quality(bundle: str | Path, limits: QualityLimits) -> Bundle:
    """Put what is usual into a bundle, as its next version, and return it.

    A bundle that was not composed keeps its version.

    Raises:
        OutputError: A file cannot be written.
    """
    opened = open_bundle(bundle)
    try:
        composition = composition_of(opened.metadata, opened.name)
    except BundleError:
        return write_quality(bundle, limits)
    reason = f"what is usual, learned from {limits.about['cases']} cases; weights as before"
    text = json_by_rows(limits.to_json(), "measures")
    return recompose(opened, composition, reason, files={_PATH: text})


def _predicted(segmenter: Segmenter, image: MetaTensor) -> CaseMeasurements:
    shape = tuple(image.shape[1:])
    maps: dict[str, np.ndarray] = {}
    if segmenter.streams:
        wanted = ["entropy", *(["disagreement"] if segmenter.passes > 1 else [])]
        maps = {name: np.zeros(shape, np.float32) for name in wanted}
    labels = segmenter.segment(image, maps=Maps(**maps) if maps else None)
    return _measured(segmenter, image, labels.as_tensor().numpy()[0], maps)


def _measured(
    segmenter: Segmenter, image: MetaTensor, labels: np.ndarray, maps: dict[str, np.ndarray]
) -> CaseMeasurements:
    affine: Affine = affine_of(image)

    def volume(values: np.ndarray) -> MetaTensor:
        return meta_tensor(values[np.newaxis], affine)

    return measure_case(
        open_volume(image),
        open_volume(volume(labels)),
        names={value: name for name, value in segmenter.labels.items()},
        maps={name: open_volume(volume(values)) for name, values in maps.items()},
    )
