"""What a trained bundle reaches on cases it was not trained on, written into its metadata."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

import volseg
from volseg.atomic import replacing
from volseg.bundle import Bundle, open_bundle
from volseg.data import hash_files, read_datalist
from volseg.evaluation import Evaluation, evaluate_case, label_of
from volseg.io import grid_of
from volseg.segmenter import Segmenter
from volseg.training.held_out import held_out_cases


def measure_bundle(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Segment the held-out cases as a user would and compare with their labels as they are.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        device: As for `Segmenter`.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: The bundle or the data are unusable.
    """
    segmenter = Segmenter(bundle, device=device)
    cases = held_out_cases(segmenter.bundle, data, fold=fold)
    rows = []
    for done, case in enumerate(cases, start=1):
        prediction = segmenter.segment(case.image)
        rows += evaluate_case(
            prediction.numpy()[0],
            case.reference(prediction),
            labels=segmenter.bundle.structures,
            spacing=grid_of(prediction).spacing,
            ignore=segmenter.bundle.ignore,
            case=case.name,
        )
        if progress is not None:
            progress(done, len(cases))
    return Evaluation(
        rows=rows,
        labels={name: label_of(values) for name, values in segmenter.bundle.structures.items()},
        surface_tolerance_mm=1.0,
        ignore=segmenter.bundle.ignore,
    )


def record_measurement(
    bundle: str | Path, data: str | Path, evaluation: Evaluation, *, fold: int = 0
) -> Bundle:
    """Write measured figures and how the weights came about into a bundle's metadata.

    Reads epochs and seconds from ``runs/fold<k>/checkpoint.pt`` where the run is still there, the
    seed from the configuration, and hashes the data as it is now.

    Raises:
        OutputError: The metadata could not be written.
    """
    opened = open_bundle(bundle)
    datalist = read_datalist(opened.folder / "configs" / "datalist.json")
    files = [Path(data) / name for case in datalist for name in case.files]
    # How long training took is known from the run, or else from when the run was there.
    before = opened.metadata.get("training", {})
    training: dict[str, Any] = {
        **{key: before[key] for key in ("epochs", "seconds") if key in before},
        "fold": fold,
        "training_cases": sum(case.fold != fold for case in datalist),
        "validation_cases": len({row.case for row in evaluation.rows}),
        "seed": ConfigParser.load_config_file(opened.config("train")).get("seed"),
        "data_sha256": hash_files(files),
        "measured_by": f"volseg {volseg.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}",
    }
    checkpoint = opened.folder / "runs" / f"fold{fold}" / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        training["epochs"] = state["epoch"]
        training["seconds"] = round(state["seconds"])
    metadata = dict(opened.metadata)
    metadata["training"] = training
    # Pictures have no spacing: their distances are in pixels, whatever the column is called.
    called = {"hausdorff95_mm": "hausdorff95_pixels"} if opened.spatial_dims == 2 else {}
    metadata["eval_metrics"] = {
        f"{called.get(metric, metric)}_{name}": round(statistics[metric].mean, 4)
        for name, statistics in evaluation.summary().items()
        for metric in ("dice", "iou", "surface_dice", "hausdorff95_mm")
        if np.isfinite(statistics[metric].mean)  # JSON has no number for a class never found
    }
    with replacing(opened.folder / "configs" / "metadata.json") as temporary:
        temporary.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return open_bundle(opened.folder)
