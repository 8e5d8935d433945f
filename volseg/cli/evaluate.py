"""``volseg evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.evaluation import Evaluation


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A label map, or a folder of them.")],
    references: Annotated[Path, typer.Argument(help="Its reference, or a folder of them.")],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Table (.csv); the summary goes beside (.json).")
    ],
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Take the names of the labels from it.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label to score as NAME=VALUE; may be repeated.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Surface distance that still counts as agreement, in mm.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Compare label maps with references: Dice, IoU, surface Dice, HD95, volume error.

    Exit code 0: all cases compared; 1: some case failed; 2: nothing could be used.
    """
    from volseg.evaluation import evaluate_files, write_evaluation

    labels = _labels(bundle, label)
    with progress_bar() as bar:
        cases = bar.add_task("comparing", total=None)
        evaluation = evaluate_files(
            predictions,
            references,
            labels=labels,
            surface_tolerance_mm=tolerance,
            progress=lambda done, total: bar.update(cases, completed=done, total=total),
        )
    table, summary = write_evaluation(evaluation, out)
    if as_json:
        import json

        print_json(json.loads(summary.read_text(encoding="utf-8")))
    else:
        _show(evaluation)
        output.print(f"written: {table} and {summary}", soft_wrap=True, markup=False)
    for case, reason in evaluation.failures.items():
        errors.print(f"{case}: {reason}", soft_wrap=True, markup=False)
    for case, values in evaluation.undeclared.items():
        errors.print(f"{case}: labels {values} were found but not scored.", markup=False)
    if evaluation.failures:
        raise typer.Exit(1 if evaluation.rows else 2)


def _labels(bundle: str | None, label: list[str] | None) -> dict[str, int] | None:
    if label:
        pairs = [text.partition("=") for text in label]
        wrong = [text for text, pair in zip(label, pairs, strict=True) if not pair[2].isdigit()]
        if wrong:
            raise InputError(f"--label {wrong[0]} is not NAME=VALUE, such as --label liver=1.")
        return {name: int(value) for name, _, value in pairs}
    if bundle is None:
        return None
    from volseg.bundle import open_bundle

    return open_bundle(bundle).labels


def _show(evaluation: Evaluation) -> None:
    from rich.table import Table

    cases = len({row.case for row in evaluation.rows})
    table = Table("label", "Dice", "IoU", "surface Dice", "HD95 mm", "volume error mL", "cases")
    for name, metrics in evaluation.summary().items():
        table.add_row(
            name,
            *(
                "-" if math.isnan(metrics[metric].mean) else f"{metrics[metric].mean:.4f}"
                for metric in ("dice", "iou", "surface_dice", "hausdorff95_mm", "volume_error_ml")
            ),
            f"{metrics['dice'].n} of {cases}{_missed(metrics['hausdorff95_mm'].n_infinite)}",
        )
    output.print(table)


def _missed(count: int) -> str:
    """Cases where only one map holds the label: Dice 0, and no distance that a mean could take."""
    return f", {count} missed" if count else ""
