"""What a trained bundle reaches on cases it was not trained on, written into its metadata."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.bundle import ConfigParser

import volseg
from volseg.bundle import Bundle, open_bundle, write_metadata
from volseg.choosing.held_out import held_out_cases
from volseg.data import hash_files, read_datalist
from volseg.errors import InputError
from volseg.evaluation import Evaluation, evaluate_case, label_of, length_unit
from volseg.io import grid_of
from volseg.segmenter import Segmenter
from volseg.training.run_record import read_run_record

_OF_THE_RUN = (
    *("epochs", "steps", "seconds", "ended_by", "best", "seed", "training_cases"),
    *("processor", "device", "peak_memory_bytes", "peak_device_memory_bytes"),
)


def measure_bundle(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Segment the held-out cases as a user would and compare with their labels as they are.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        device: As for `Segmenter`.
        settings: Of inference, as for `Segmenter`; the bundle's own by default.
        progress: Called as ``progress(done, total)`` with cases.

    Raises:
        InputError: The bundle or the data are unusable.
    """
    segmenter = Segmenter(bundle, device=device, settings=settings)
    cases = held_out_cases(segmenter.bundle, data, fold=fold)
    rows = []
    for done, case in enumerate(cases, start=1):
        prediction = segmenter.segment(case.image)
        rows += evaluate_case(
            prediction.numpy()[0],
            case.reference(prediction),
            labels=segmenter.bundle.structures,
            spacing=grid_of(prediction).affine.matrix[:-1, :-1],
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
        length_unit=length_unit(case.label for case in cases),
    )


def record_measurement(
    bundle: str | Path,
    data: str | Path,
    evaluation: Evaluation | None,
    *,
    fold: int | Literal["all"] = 0,
) -> Bundle:
    """Write measured figures and how the weights came about into a bundle's metadata.

    What is known of the training is that of ``runs/fold<k>/run.json``, where the run is still
    there; the data are hashed as they are now.

    Args:
        bundle: The bundle.
        data: The folder the paths in its datalist are relative to.
        evaluation: Of its held-out cases; None if it was trained on all, and nothing is known.
        fold: What was held out in training.

    Raises:
        InputError: The weights that are there held out something else.
        OutputError: The metadata could not be written.
    """
    opened = open_bundle(bundle)
    before = opened.metadata.get("training", {})
    if before.get("fold", fold) != fold:
        raise InputError(
            f"the figures are of a training with fold {fold}, but the weights in {opened.folder} "
            f"are of one with fold {before['fold']}, which has ended there since: give each "
            "training a folder of its own."
        )
    datalist = read_datalist(opened.folder / "configs" / "datalist.json")
    files = [Path(data) / name for case in datalist for name in case.files]
    rows = [] if evaluation is None else evaluation.rows
    # How training went is known from the run, or else from when the run was there.
    known = _of_the_run(read_run_record(opened.folder / "runs" / f"fold{fold}"))
    training: dict[str, Any] = {
        **(known or {name: before[name] for name in _OF_THE_RUN if name in before}),
        "fold": fold,
        "validation_cases": len({row.case for row in rows}),
        "data_sha256": hash_files(files),
        "measured_by": f"volseg {volseg.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}",
    }
    training.setdefault("training_cases", sum(case.fold != fold for case in datalist))
    training.setdefault("seed", ConfigParser.load_config_file(opened.config("train")).get("seed"))
    metadata = dict(opened.metadata)
    metadata["training"] = training
    # Of pictures distances are in pixels, whatever the column is called.
    pixels = evaluation is not None and evaluation.length_unit == "pixels"
    called = {"hausdorff95_mm": "hausdorff95_pixels"} if pixels else {}
    metadata["eval_metrics"] = {
        f"{called.get(metric, metric)}_{name}": round(statistics[metric].mean, 4)
        for name, statistics in ({} if evaluation is None else evaluation.summary()).items()
        for metric in ("dice", "iou", "surface_dice", "hausdorff95_mm")
        if np.isfinite(statistics[metric].mean)  # JSON has no number for a class never found
    }
    return write_metadata(opened, metadata)


def _of_the_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the metadata tell of a run, which names no files."""
    if not record:
        return {}
    known = {
        **record,
        "seed": record["settings"].get("seed"),
        "training_cases": record["data"]["training_cases"],
        "processor": record["machine"]["processor"],
        "device": record["machine"]["device"],
    }
    return {name: known[name] for name in _OF_THE_RUN if name in known}
