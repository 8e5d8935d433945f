"""``volseg bundle threshold`` and ``volseg bundle calibrate``: how a trained bundle decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.atomic import require_writable
from volseg.cli.console import errors, output, print_json, progress_bar

if TYPE_CHECKING:
    from volseg.choosing import CaseEvidence

_BUNDLE = typer.Argument(help="Name of a shipped bundle, or a bundle folder.")
_DATA = typer.Option(help="Folder of the data set the bundle lists.")
_FOLD = typer.Option(help="Fold that was held out in training.", min=0)
_DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")
_JSON = typer.Option("--json", help="Machine-readable output.")


def threshold(
    bundle: Annotated[str, _BUNDLE],
    data: Annotated[Path, _DATA],
    metric: Annotated[str, typer.Option(help="dice or pixel_accuracy.")] = "dice",
    fold: Annotated[int, _FOLD] = 0,
    device: Annotated[str, _DEVICE] = "auto",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Choose what the probability of the foreground must exceed, on held-out cases.

    For bundles of two classes, or of regions. The threshold becomes the bundle's own; what every
    other one reaches is kept in configs/decision.json. What is usual for cases is taken away, if
    the threshold is another than before: learn it again with `volseg bundle quality`.
    """
    from dataclasses import asdict

    from volseg.choosing import choose_threshold, record_decisions

    choice = choose_threshold(_gathered(bundle, data, fold, device), metric=metric)
    if as_json:
        print_json(asdict(choice))
    else:
        output.print(
            f"threshold {choice.value:g}: {choice.metric} {choice.after:.4f}, at one half "
            f"{choice.before:.4f}, {choice.cases} cases"
        )
    _stored(record_decisions(bundle, threshold=choice).metadata["version"])


def calibrate(
    bundle: Annotated[str, _BUNDLE],
    data: Annotated[Path, _DATA],
    fold: Annotated[int, _FOLD] = 0,
    device: Annotated[str, _DEVICE] = "auto",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Fit the temperature at which probabilities mean what they say, on held-out cases.

    It becomes the bundle's own, and changes probabilities and entropy but no label. What is usual
    for cases is taken away, if the temperature is another than before: learn it again with `volseg
    bundle quality`.
    """
    from dataclasses import asdict

    from volseg.choosing import choose_temperature, record_decisions

    choice = choose_temperature(_gathered(bundle, data, fold, device))
    if as_json:
        print_json(asdict(choice))
    else:
        before, after = choice.expected_calibration_error
        likelihood = choice.negative_log_likelihood
        output.print(
            f"temperature {choice.value:g}: expected calibration error {before:.4f} to "
            f"{after:.4f}, negative log-likelihood {likelihood[0]:.4f} to {likelihood[1]:.4f}, "
            f"{choice.voxels} voxels of {choice.cases} cases"
        )
    _stored(record_decisions(bundle, temperature=choice).metadata["version"])


def _gathered(bundle: str, data: Path, fold: int, device: str) -> list[CaseEvidence]:
    from volseg.bundle import open_bundle
    from volseg.choosing import gather_evidence

    require_writable(open_bundle(bundle).folder / "configs" / "metadata.json")
    with progress_bar() as bar:
        cases = bar.add_task("segmenting the held-out cases", total=None)
        return gather_evidence(
            bundle,
            data,
            fold=fold,
            device=device,
            progress=lambda done, total: bar.update(cases, completed=done, total=total),
        )


def _stored(version: str) -> None:
    errors.print(
        f"stored as version {version}; how it was found is in configs/decision.json.",
        soft_wrap=True,
    )
