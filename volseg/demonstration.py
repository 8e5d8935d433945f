"""The demonstration: a phantom whose truth is known, segmented by a shipped bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from volseg.errors import InputError
from volseg.evaluation import ClassScore, evaluate_case
from volseg.geometry import Affine
from volseg.io import as_image, write_image, write_segmentation
from volseg.metrics import label_statistics
from volseg.phantom import make_phantom
from volseg.report import write_preview, write_statistics
from volseg.segmenter import Segmenter

BUNDLE = "phantom_unet"


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration measured and where it put its files."""

    scores: list[ClassScore]
    files: dict[str, Path]


def run_demonstration(
    folder: str | Path,
    *,
    seed: int = 1,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Demonstration:
    """Make a phantom, segment it, compare with its truth, write what a user would want to see.

    Args:
        folder: Where ``phantom.nii.gz``, its label map, the preview and the statistics go.
        seed: Another seed is another anatomy; seeds from 1000 up were used in training.
        device: As for `Segmenter`.
        progress: Called as ``progress(done, total)`` with tiles.

    Raises:
        InputError: The seed was used in training.
        OutputError: A file could not be written.
    """
    if seed >= 1000:
        raise InputError(f"seed {seed} was used in training: choose one below 1000.")
    folder = Path(folder)
    phantom = make_phantom(seed)
    image = as_image(phantom.image, phantom.affine)
    segmenter = Segmenter(BUNDLE, device=device)
    labels = segmenter.segment(image, progress=progress)
    files = {
        "image": folder / "phantom.nii.gz",
        "truth": folder / "phantom_truth.nii.gz",
        "label map": folder / "phantom_seg.nii.gz",
        "preview": folder / "phantom_preview.png",
        "statistics": folder / "phantom_statistics.csv",
    }
    truth = MetaTensor(torch.from_numpy(phantom.labels)[None], affine=image.affine)
    write_image(image, files["image"])
    write_segmentation(truth, files["truth"], like=image)
    write_segmentation(labels, files["label map"], like=image)
    names = {value: name for name, value in segmenter.labels.items()}
    write_preview(image, labels, files["preview"], names=names)
    array = labels.numpy()[0]
    statistics = label_statistics(
        array, Affine(np.asarray(image.affine)), image=phantom.image[np.newaxis], names=names
    )
    write_statistics({"phantom": statistics}, files["statistics"])
    scores = evaluate_case(
        array,
        phantom.labels,
        labels=segmenter.labels,
        spacing=Affine(phantom.affine).spacing,
        case="phantom",
    )
    return Demonstration(scores=scores, files=files)
