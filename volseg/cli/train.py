"""``volseg train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli import training_options
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.option_groups import given

if TYPE_CHECKING:
    from rich.progress import Progress

    from volseg.bundle import Bundle
    from volseg.training import TrainingState


@given(settings=training_options.settings)
def train(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder of the data set the bundle lists.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trained bundle.")],
    settings: dict[str, Any],
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    processes: Annotated[
        int,
        typer.Option(
            help="How many share the batches on this machine; with CUDA, each has a device. "
            "On several machines use torchrun.",
            min=1,
        ),
    ] = 1,
    skip_damaged: Annotated[
        bool,
        typer.Option(
            "--skip-damaged", help="Leave out cases that a new run cannot read; say which."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Train a bundle; OUT becomes a trained copy of it. Run again to go on after a stop.

    Executes the Python expressions in the bundle's configs/train.yaml: train only bundles whose
    author you trust.
    """
    import logging

    from volseg.choosing import record_measurement
    from volseg.training import train_bundle
    from volseg.training.launching import is_first_process, run_in_processes, was_launched

    # MONAI's workflows write notices to standard output, which is for results here.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    # What ends a training is said in a sentence of its own.
    logging.getLogger("ignite").setLevel(logging.CRITICAL)
    if processes > 1 and not was_launched():
        words = ["train", bundle, "--data", str(data), "-o", str(out)]
        words += [word for name in settings for word in ("--set", _in_yaml(name, settings[name]))]
        words += ["--device", device] if device else []
        words += ["--skip-damaged"] if skip_damaged else []
        words += ["--json"] if as_json else []
        words += ["--debug"] if logging.getLogger("volseg").isEnabledFor(logging.DEBUG) else []
        raise typer.Exit(run_in_processes(processes, words))
    fold = settings.pop("fold")
    with progress_bar(shown=is_first_process()) as bar:
        steps = bar.add_task("preparing", total=None)

        def show(state: TrainingState) -> None:
            done = round(1000 * state.part_done)
            bar.update(steps, description=state.describe(), completed=done, total=1000)
            # Above the bar, which says something else a moment later, what was validated stays.
            if state.epoch_has_ended and (state.metrics or not errors.is_terminal):
                errors.print(state.describe(), soft_wrap=True, markup=False)

        def has_begun() -> bool:
            return bar.tasks[steps].total is not None

        command = "the same command"
        if settings.get("resume") is False:
            command += " without --set resume=false"
        with _saying_how_to_go_on(out / "runs" / f"fold{fold}", command, has_begun):
            trained = train_bundle(
                bundle,
                data,
                out,
                fold=fold,
                device=device,
                settings=settings,
                skip_damaged=skip_damaged,
                progress=show,
            )
        if not is_first_process():
            return
        if fold == "all":
            trained = record_measurement(trained.folder, data, None, fold=fold)
        else:
            trained = _judged(trained.folder, data, fold, device or "auto", bar)
    metrics = trained.metadata["eval_metrics"]
    if as_json:
        print_json({"bundle": str(trained.folder), "metrics": metrics})
        return
    for name, value in metrics.items():
        output.print(f"{name}: {value}")
    if fold == "all":
        errors.print("trained on every case: none is held out, so nothing tells how good it is")
    errors.print(
        f"use it with: volseg segment INPUT -o OUT --bundle {trained.folder}",
        soft_wrap=True,
        markup=False,
    )


def _in_yaml(name: str, value: Any) -> str:
    """Return a setting as ``--set`` takes it."""
    import yaml

    text = str(yaml.safe_dump(value, default_flow_style=True, width=float("inf")))
    return f"{name}={text.splitlines()[0]}"  # without the end of a document


def _judged(folder: Path, data: Path, fold: int, device: str, bar: Progress) -> Bundle:
    """Measure a trained bundle on its held-out cases, and learn what is usual."""
    from volseg.choosing import learn_quality, measure_bundle, record_measurement, write_quality
    from volseg.errors import InputError

    def task(what: str) -> Callable[[int, int], None]:
        number = bar.add_task(what, total=None)
        return lambda done, total: bar.update(number, completed=done, total=total)

    measuring, learning = task("measuring the held-out cases"), task("learning what is usual")
    evaluation = measure_bundle(folder, data, fold=fold, device=device, progress=measuring)
    trained = record_measurement(folder, data, evaluation, fold=fold)
    try:
        limits = learn_quality(folder, data, fold=fold, device=device, progress=learning)
        trained = write_quality(folder, limits)
    except InputError as error:  # such as too few cases: the bundle is trained all the same
        errors.print(f"without limits of quality: {error}", soft_wrap=True, markup=False)
    return trained


@contextmanager
def _saying_how_to_go_on(run: Path, command: str, has_begun: Callable[[], bool]) -> Iterator[None]:
    """Say what is kept of a training that has begun and does not come to its end."""
    from volseg.errors import InputError

    try:
        yield
    except InputError:  # says itself what to change
        raise
    except BaseException:
        if has_begun() and (run / "checkpoint.pt").is_file():
            errors.print(
                f"what was trained before is kept in {run / 'checkpoint.pt'}; {command} goes on "
                "from there",
                soft_wrap=True,
                markup=False,
            )
        raise
