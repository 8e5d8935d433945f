"""Tables of an evaluation on the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from volseg.cli.console import output

if TYPE_CHECKING:
    from volseg.evaluation import CasesCalibration, Comparison, Evaluation, Metric

_SHOWN = ("dice", "iou", "surface_dice", "hausdorff95_mm", "volume_error_ml")


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the means of an evaluation with their intervals, and how they came about."""
    from rich.markup import escape
    from rich.table import Table

    from volseg.evaluation import how_computed

    cases, presence = len(evaluation.cases), evaluation.presence()
    shown = {name: evaluation.metrics[name] for name in _SHOWN if name in evaluation.metrics}
    table = Table("label", *(metric.heading for metric in shown.values()), "cases")
    for name, metrics in evaluation.summary().items():
        table.add_row(
            escape(name),
            *(
                _text(metrics[metric].mean, metrics[metric].interval, about)
                for metric, about in shown.items()
            ),
            f"{metrics['dice'].n} of {cases}{_missed(presence[name].one)}",
        )
    if len(evaluation.labels) > 1:
        means, intervals = evaluation.mean_over_classes(), evaluation.intervals_over_classes()
        cells = (_text(means[name], intervals[name], about) for name, about in shown.items())
        table.add_section()
        table.add_row("mean over labels", *cells, "")
    output.print(table)
    for sentence in how_computed(evaluation):
        output.print(sentence, style="dim", markup=False)


def show_comparison(evaluation: Evaluation, comparison: Comparison) -> None:
    """Print how an evaluation compares with another one."""
    from rich.markup import escape
    from rich.table import Table

    names = map(escape, comparison.names)
    table = Table("label", "metric", *names, "difference", "effect", "p (Holm)", "cases")
    for row in comparison.rows:
        if not row.cases or row.metric not in evaluation.metrics:
            continue
        metric = evaluation.metrics[row.metric]
        table.add_row(
            escape(row.name),
            metric.heading,
            metric.text(row.first),
            metric.text(row.second),
            f"{row.difference:+.3g}\n{metric.interval_text(row.interval, signed=True)}".rstrip(),
            "-" if math.isnan(row.rank_effect) else f"{row.rank_effect:+.2f}",
            "-" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}",
            f"{row.better} better, {row.worse} worse of {row.cases}",
        )
    output.print(table)
    for sentence in comparison.sentences():
        output.print(sentence, style="dim", markup=False)


def show_calibration(found: CasesCalibration) -> None:
    """Print how well probabilities are calibrated."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("probability of", "calibration error", "Brier score")
    for name, curve in found.curves.items():
        table.add_row(escape(name), f"{curve.expected_error:.4g}", f"{curve.brier:.4g}")
    output.print(table)
    whole = found.calibration
    output.print(
        f"Of {len(found.cases)} cases, {whole.voxels:,} voxels: negative log-likelihood "
        f"{whole.negative_log_likelihood:.4g}, Brier score of all classes {whole.brier:.4g}.",
        style="dim",
    )


def _text(mean: float, interval: tuple[float, float], metric: Metric) -> str:
    return f"{metric.text(mean)}\n{metric.interval_text(interval)}".rstrip()


def _missed(count: int) -> str:
    """Return the cases where one map alone holds the label: Dice 0, and an infinite distance."""
    return f", {count} in one map only" if count else ""
