"""``volseg train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli import training_options
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.option_groups import given

if TYPE_CHECKING:
    from volseg.training import TrainingState


@given(settings=training_options.settings)
def train(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder of the data set the bundle lists.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trained bundle.")],
    settings: dict[str, Any],
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Train a bundle; OUT becomes a trained copy of it. Run again to go on after a stop.

    Executes the Python expressions in the bundle's configs/train.yaml: train only bundles whose
    author you trust.
    """
    import logging

    from volseg.errors import InputError
    from volseg.training import (
        learn_quality,
        measure_bundle,
        record_measurement,
        train_bundle,
        write_quality,
    )

    # MONAI's workflows write notices to standard output, which is for results here.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    with progress_bar() as bar:
        steps = bar.add_task("training", total=None)

        def show(state: TrainingState) -> None:
            dice = "" if state.key_metric is None else f", held-out {state.key_metric:.4f}"
            bar.update(
                steps,
                description=f"epoch {state.epoch}/{state.epochs}, loss {state.loss:.4f}{dice}",
                completed=(state.epoch - 1) * state.steps + state.step,
                total=state.epochs * state.steps,
            )

        fold = settings.pop("fold")
        trained = train_bundle(
            bundle, data, out, fold=fold, device=device, settings=settings, progress=show
        )
        measuring = bar.add_task("measuring the held-out cases", total=None)
        evaluation = measure_bundle(
            trained.folder,
            data,
            fold=fold,
            device=device or "auto",
            progress=lambda done, total: bar.update(measuring, completed=done, total=total),
        )
        trained = record_measurement(trained.folder, data, evaluation, fold=fold)
        learning = bar.add_task("learning what is usual", total=None)
        try:
            limits = learn_quality(
                trained.folder,
                data,
                fold=fold,
                device=device or "auto",
                progress=lambda done, total: bar.update(learning, completed=done, total=total),
            )
            trained = write_quality(trained.folder, limits)
        except InputError as error:  # such as too few cases: the bundle is trained all the same
            errors.print(f"without limits of quality: {error}", soft_wrap=True, markup=False)
    metrics = trained.metadata["eval_metrics"]
    if as_json:
        print_json({"bundle": str(trained.folder), "metrics": metrics})
        return
    for name, value in metrics.items():
        output.print(f"{name}: {value}")
    errors.print(f"use it with: volseg segment INPUT -o OUT --bundle {trained.folder}")
