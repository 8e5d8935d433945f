"""Train a bundle: a copy of it is trained in place, so that the result is a bundle again."""

from __future__ import annotations

import filecmp
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from monai.bundle import ConfigWorkflow

from volseg.atomic import replacing
from volseg.bundle import Bundle, open_bundle, write_metadata
from volseg.errors import InputError, first_cause
from volseg.training.checkpoint import CheckpointEveryEpoch
from volseg.training.copying import copy_to_train, forget_measurements
from volseg.training.curves import DrawCurves
from volseg.training.damaged import leave_out_damaged
from volseg.training.distributed import first_process_first, processes_together
from volseg.training.progress import TrainingState
from volseg.training.run_settings import require_cases, require_run_settings

_log = logging.getLogger(__name__)


def train_bundle(
    bundle: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    fold: int | Literal["all"] = 0,
    epochs: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    skip_damaged: bool = False,
    progress: Callable[[TrainingState], None] | None = None,
) -> Bundle:
    """Train a bundle on a folder of data and return the trained bundle.

    ``output`` becomes a copy of the bundle with a folder ``runs/fold<k>`` (``runs/foldall``) that
    has checkpoint, history, curves and record of the run, and at the end new weights in
    ``models/model.pt``. Called again after an interruption, it goes on from the checkpoint, if
    the bundle is as it was then. The Python expressions in its ``configs/train.yaml`` are executed,
    as by ``python -m monai.bundle run``: train only bundles whose author you trust.

    Processes that ``torchrun`` started share the batches (`volseg.training.distributed`); the first
    writes the files and tells of the progress, and all return the bundle.

    Args:
        bundle: Name of a shipped bundle or a bundle folder.
        data: The folder the paths in the bundle's datalist are relative to.
        output: Folder for the trained bundle.
        fold: Fold held out for validation, or ``all`` to train on every case, with none held out.
        epochs: Instead of the bundle's own number.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; the bundle's own choice by default.
        settings: Other entries of ``configs/train.yaml`` by name, instead of the bundle's own.
        skip_damaged: Whether cases that cannot be read when a run begins are left out instead of
            ending it; the datalist of ``output`` then says which and why (`leave_out_damaged`).
        progress: Called after every training step and every validation.

    Raises:
        UnknownNameError: There is no such setting; the message has the nearest ones.
        InputError: The bundle, the data or a path are unusable, or a setting is out of its range.
        OutputError: ``output`` cannot be written, has the name of a bundle that comes with volseg,
            or is no copy of the bundle as it is now.
    """
    source = open_bundle(bundle)
    data, output = Path(data), Path(output).resolve()
    if not data.is_dir():
        raise InputError(f"there is no data folder {data}.")
    for path in (data.resolve(), output):
        if "#" in str(path):
            raise InputError(
                f"{path} has a '#', which MONAI reads as a sign of its own: rename that folder."
            )
    chosen = {**(settings or {}), "fold": fold}
    if epochs is not None:
        chosen["epochs"] = epochs
    running = require_run_settings(source, chosen)
    datalist = Path("configs", "datalist.json")
    # What is gone on with has a list of its own, which lacks the cases that were left out.
    if not (output / datalist).is_file():
        require_cases(source.folder / datalist, data, fold=fold, number=running.get("cases"))
    with processes_together(device) as where:
        with first_process_first() as is_first:
            target = copy_to_train(source, output) if is_first else open_bundle(output)
        require_cases(target.folder / datalist, data, fold=fold, number=running.get("cases"))
        # A run that is gone on with stays one of the cases that it was begun with.
        checkpoint = target.folder / "runs" / f"fold{fold}" / CheckpointEveryEpoch.CHECKPOINT
        begins = not (running.get("resume", True) and checkpoint.is_file())
        if skip_damaged and begins:
            left_out = leave_out_damaged(target, data)
            for case, reason in left_out.items() if is_first else ():
                _log.warning("left out: %s: %s", case, reason)
        return _trained(source, target, data, chosen, where, progress if is_first else None)


def _trained(  # noqa: PLR0917 - all of `train_bundle`, checked
    source: Bundle,
    target: Bundle,
    data: Path,
    chosen: Mapping[str, Any],
    device: torch.device,
    progress: Callable[[TrainingState], None] | None,
) -> Bundle:
    """Train the copy of a bundle, in this process and those beside it, and return it."""
    run_folder = target.folder / "runs" / f"fold{chosen['fold']}"
    overrides: dict[str, Any] = {
        **chosen,
        "bundle_root": str(target.folder),
        "dataset_dir": str(data.resolve()),
        "output_dir": str(run_folder),
        "device": device,
    }
    workflow = ConfigWorkflow(
        config_file=str(target.config("train")),
        logging_file=False,
        workflow_type="train",
        **overrides,
    )
    try:
        workflow.initialize()
        part = workflow.parser.get_parsed_content
        part("record").origin = source.folder
        if progress is not None:
            part("history").listen(progress)
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        raise first_cause(error) from None
    with first_process_first() as is_first:
        if is_first:
            _take_over(run_folder, target, chosen["fold"])
    return open_bundle(target.folder)


def _take_over(run_folder: Path, target: Bundle, fold: int | Literal["all"]) -> None:
    """Make the weights and the curves of a run those of the bundle, which tells what it held out.

    That comes first: whoever finds the weights knows which cases they were not trained on.
    """
    weights = run_folder / CheckpointEveryEpoch.WEIGHTS
    # A training that was finished before gives the weights that are there.
    known = target.weights.is_file() and filecmp.cmp(weights, target.weights, shallow=False)
    if not known:
        forget_measurements(open_bundle(target.folder))
    trained = open_bundle(target.folder)
    training = trained.metadata.get("training", {})
    if training.get("fold") != fold:
        write_metadata(trained, {**trained.metadata, "training": {**training, "fold": fold}})
    if not known:
        with replacing(target.weights) as temporary:
            shutil.copyfile(weights, temporary)
    curves = run_folder / DrawCurves.PICTURE
    if curves.is_file():
        with replacing(target.folder / "docs" / "training.png") as temporary:
            shutil.copyfile(curves, temporary)
