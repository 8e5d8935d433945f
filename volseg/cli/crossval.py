"""``volseg crossval``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.lists import numbers, words
from volseg.cli.setting_options import named_values

if TYPE_CHECKING:
    from rich.progress import Progress

    from volseg.choosing import CrossValidation, CrossValidationState, CrossValidationStatus

_SHOWN = ("dice", "iou", "surface_dice", "hausdorff95_mm")


def crossval(
    bundle: Annotated[
        str | None, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that comes of it.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set the bundle lists.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Those that are held out, as 0,1; all by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each fold.", min=1)] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of training, in YAML."),
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            help="What to choose on held-out cases: threshold,temperature,cleaning, or some."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What a threshold is chosen by: dice or pixel_accuracy.")
    ] = "dice",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write those of the held-out cases.")
    ] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Make one bundle of the folds, OUT/ensemble.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say how far the one in OUT is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Train a bundle once a fold and score each case by the network that has not seen it.

    Run again to go on after a stop of any kind: what is finished is not done again. Executes the
    Python expressions in the bundle's configs/train.yaml: only for bundles whose author you trust.
    """
    import logging

    from volseg.choosing import cross_validate, cross_validation_status
    from volseg.errors import InputError
    from volseg.report import write_evaluation_page
    from volseg.training.launching import was_launched

    if status:
        found = cross_validation_status(out)
        if as_json:
            from dataclasses import asdict

            print_json(asdict(found))
        else:
            _show_status(found)
        return
    if bundle is None or data is None:
        raise InputError(
            "a cross-validation needs a BUNDLE and --data, those that it was begun with when it "
            "is gone on with."
        )
    settings: dict[str, Any] = named_values(change or ())
    if epochs is not None:
        if "epochs" in settings:
            raise InputError("epochs is given by --epochs and by --set: give it once.")
        settings["epochs"] = epochs
    if "fold" in settings:
        raise InputError("every fold is held out once: say which with --folds, not --set fold.")
    if was_launched():
        raise InputError(
            "a cross-validation is run by one process, but torchrun started several: train each "
            "fold with `volseg train --fold`, which they can share."
        )
    # MONAI's workflows write notices to standard output, which is for results here.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    with progress_bar() as bar:
        try:
            result = cross_validate(
                bundle,
                data,
                out,
                folds=None if folds is None else numbers("--folds", folds, int, example="0,1,2"),
                settings=settings,
                choices=[] if choose is None else words(choose),
                metric=metric,
                probabilities=probabilities,
                ensemble=ensemble,
                device=device,
                progress=_telling(bar),
            )
        except KeyboardInterrupt:
            errors.print("what is finished is kept: go on with the same command.")
            raise
        pictures = bar.add_task("drawing the worst cases", total=None)
        write_evaluation_page(
            result.evaluation,
            result.folder / "evaluation.html",
            title=f"Cross-validation of {Path(bundle).name}",
            images=_image_folder(bundle, data),
            progress=lambda done, total: bar.update(pictures, completed=done, total=total),
        )
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result)
    written = "evaluation.html, .csv and .json, folds.csv, predictions/"
    errors.print(f"in {result.folder}: {written}", soft_wrap=True, markup=False)
    if result.ensemble is not None:
        errors.print(
            f"use the ensemble with: volseg segment INPUT -o OUT --bundle {result.ensemble.folder}",
            soft_wrap=True,
            markup=False,
        )


def _telling(bar: Progress) -> Callable[[CrossValidationState], None]:
    """Return what shows how far it is: a bar, or else a line for each stage and each epoch."""
    task = bar.add_task("", total=None)
    told: tuple[str, int | None] | None = None

    def show(state: CrossValidationState) -> None:
        nonlocal told
        fold = "" if state.fold is None else f" fold {state.fold}"
        detail = state.detail and f": {state.detail}"
        what = f"{state.stage}{fold}{detail}"
        bar.update(task, description=what, completed=state.done, total=state.total)
        begins = told != (state.stage, state.fold)
        told = state.stage, state.fold
        if not errors.is_terminal and (begins or state.epoch_has_ended):
            errors.print(what, soft_wrap=True, markup=False)

    return show


def _image_folder(bundle: str, data: Path) -> Path | None:
    """Return the folder that has the image of each case under its name, if there is one."""
    from volseg.bundle import open_bundle
    from volseg.data import read_datalist
    from volseg.io import image_name

    folders = set()
    for case in read_datalist(open_bundle(bundle).folder / "configs" / "datalist.json"):
        if not isinstance(case.image, str) or image_name(case.image) != case.case:
            return None
        folders.add((data / case.image).parent)
    return folders.pop() if len(folders) == 1 else None


def _show(result: CrossValidation) -> None:
    from rich.table import Table

    folds = list(result.evaluation_of_fold)
    table = Table(box=None, pad_edge=False)
    for heading in ("class", "metric", *(f"fold {fold}" for fold in folds), "all", "95 %"):
        table.add_column(heading, no_wrap=True)
    for name, metrics in result.evaluation.summary().items():
        for metric in _SHOWN:
            found = metrics[metric]
            of_fold = [
                result.evaluation_of_fold[fold].summary()[name][metric].mean for fold in folds
            ]
            interval = " to ".join(_number(end) for end in found.interval)
            table.add_row(name, metric, *map(_number, of_fold), _number(found.mean), interval)
    output.print(table)
    if result.threshold is not None:
        found_by = result.threshold
        output.print(
            f"threshold {found_by.value:g}: {found_by.metric} {found_by.after:.4f}, at one half "
            f"{found_by.before:.4f}"
        )
    if result.temperature is not None:
        before, after = result.temperature.expected_calibration_error
        output.print(
            f"temperature {result.temperature.value:g}: expected calibration error {before:.4f} "
            f"to {after:.4f}"
        )


def _as_json(result: CrossValidation) -> dict[str, Any]:
    from volseg.choosing import summary_of

    return {
        "folder": str(result.folder),
        **summary_of(result.evaluation, result.evaluation_of_fold),
        "threshold": None if result.threshold is None else result.threshold.value,
        "temperature": None if result.temperature is None else result.temperature.value,
        "ensemble": None if result.ensemble is None else str(result.ensemble.folder),
    }


def _show_status(found: CrossValidationStatus) -> None:
    for fold in found.folds:
        trained = "trained" if fold.trained else "not trained yet"
        output.print(f"fold {fold.fold}: {trained}, {fold.predicted} of {fold.cases} cases scored")
    activity = found.activity
    if found.finished:
        output.print("finished")
    elif activity:
        of_fold = "" if activity["fold"] is None else f" fold {activity['fold']}"
        detail = f" ({activity['detail']})" if activity["detail"] else ""
        output.print(
            f"{activity['stage']}{of_fold}: {activity['done']} of {activity['total']}{detail}, "
            f"{activity['seconds']:.0f} s ago",
            soft_wrap=True,
            markup=False,
        )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
