"""``volseg evaluate``."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.atomic import require_writable
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.evaluation_tables import show_calibration, show_comparison, show_evaluation
from volseg.cli.label_options import named_regions
from volseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.progress import Progress, TaskID

    from volseg.evaluation import (
        CasePair,
        Evaluation,
        Label,
    )


class EmptyCases(Enum):
    """What a case counts in which neither map holds a label."""

    LEAVE_OUT = "leave-out"
    PERFECT = "perfect"


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A label map, or a folder of them.")],
    references: Annotated[Path, typer.Argument(help="Its reference, or a folder of them.")],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Page (.html) or table (.csv): the table and the summary (.json) of that name are "
            "written in any case.",
        ),
    ],
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Take from it what is to be scored.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label to score, NAME=VALUE, or values: tumour=1,2,3; repeat."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Surface distance that still counts as agreement, in mm; of pictures in pixels."
        ),
    ] = 1.0,
    ignore: Annotated[
        int | None,
        typer.Option(help="Value of the references whose voxels count in no metric, such as 255."),
    ] = None,
    patients: Annotated[
        str | None,
        typer.Option(
            help="Whom a case is of, for the intervals: a datalist (.json), a table with the "
            "columns case and patient (.csv), or a pattern such as '(.*)_scan'. Each case is a "
            "patient of its own without it.",
        ),
    ] = None,
    empty: Annotated[
        EmptyCases,
        typer.Option(help="What a case counts in which neither map holds the label."),
    ] = EmptyCases.LEAVE_OUT,
    missed_distance: Annotated[
        float | None,
        typer.Option(
            help="What distances are where one map alone holds the label, in mm; of pictures in "
            "pixels. Infinite, and left out of means, without it.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Other predictions of the same cases, to compare with case by case."),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            help="Folder of <case>_probabilities.nii.gz, .nii or .zarr: are they calibrated?"
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images, for the page; those that volseg segment segmented it finds."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Compare label maps with references: Dice, IoU, surface Dice, HD95, volume error.

    Means come with 95 % confidence intervals, by bootstrap over patients.

    Exit code 0: all cases compared; 1: some case failed; 2: nothing could be used.
    """
    from volseg.evaluation import (
        EmptyRule,
        calibrate_files,
        compare_evaluations,
        evaluate_pairs,
        require_probabilities,
        write_evaluation,
    )

    _require_output(out, images, patients)
    labels, ignore = _labels(bundle, label, ignore)
    channels = None if probabilities is None else _channels(bundle, labels)
    rule = EmptyRule(empty is EmptyCases.PERFECT, missed_distance)
    sets = _pairs(predictions, references, against)
    cases = list(dict.fromkeys(pair.case for pairs in sets for pair in pairs))
    of_whom = None if patients is None else _patients(patients, cases)
    if probabilities is not None:
        require_probabilities(cases, probabilities)
    evaluations: list[Evaluation] = []
    with progress_bar() as bar:
        for folder, pairs in zip((predictions, against), sets, strict=False):
            task = bar.add_task(f"comparing {folder}" if against else "comparing", total=len(pairs))
            evaluations.append(
                evaluate_pairs(
                    pairs,
                    labels=labels,
                    surface_tolerance_mm=tolerance,
                    ignore=ignore,
                    empty=rule,
                    patients=of_whom,
                    progress=partial(_advance, bar, task),
                )
            )
        calibration = None
        if probabilities is not None:
            task = bar.add_task("probabilities", total=len(sets[0]))
            calibration = calibrate_files(
                sets[0],
                probabilities,
                labels=channels or evaluations[0].labels,
                ignore=ignore,
                progress=partial(_advance, bar, task),
            )
    evaluation, comparison = evaluations[0], None
    if against is not None:
        names = _names(predictions, against)
        comparison = compare_evaluations(evaluation, evaluations[1], names=names)
    has_page = out.suffix.lower() == ".html"
    table, summary = write_evaluation(
        evaluation,
        out.with_suffix(".csv") if has_page else out,
        comparison=comparison,
        calibration=calibration,
    )
    if has_page:
        from volseg.report import Compared, write_evaluation_page

        with progress_bar() as bar:
            task = bar.add_task("pictures", total=None)
            write_evaluation_page(
                evaluation,
                out,
                title=str(predictions.resolve().name),
                compared=None if comparison is None else Compared(evaluations[1], comparison),
                calibration=calibration,
                images=images,
                progress=partial(_advance, bar, task),
            )
    if as_json:
        import json

        print_json(json.loads(summary.read_text(encoding="utf-8")))
    else:
        show_evaluation(evaluation)
        if comparison is not None:
            show_comparison(evaluation, comparison)
        if calibration is not None:
            show_calibration(calibration)
        written = ", ".join(map(str, [*([out] if has_page else []), table]))
        output.print(f"written: {written} and {summary}", soft_wrap=True, markup=False)
    failures = [failure for one in evaluations for failure in one.failures.items()]
    failures += calibration.failures.items() if calibration else []
    for case, reason in failures:
        errors.print(f"{case}: {reason}", soft_wrap=True, markup=False)
    for case, values in evaluation.undeclared.items():
        errors.print(f"{case}: labels {values} were found but not scored.", markup=False)
    if failures:
        raise typer.Exit(1 if evaluation.rows else 2)


def _require_output(out: Path, images: Path | None, patients: str | None) -> None:
    """Refuse what cannot be written or shown, before anything is compared."""
    from volseg.evaluation import evaluation_paths

    if out.suffix.lower() not in {".html", ".csv", ".json"}:
        raise OutputError(
            f"{out} cannot hold an evaluation; expected a name that ends in .html (page), .csv "
            "(table) or .json (summary): tables and summary are written in any case."
        )
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {images}: give one that holds the images.")
    for path in (out, *evaluation_paths(out)):
        if patients is not None and path.resolve() == Path(patients).resolve():
            raise InputError(
                f"{path} says whom the cases are of, and would be replaced: give another --output."
            )
        require_writable(path)


def _advance(bar: Progress, task: TaskID, done: int, _: int) -> None:
    bar.update(task, completed=done)


def _pairs(predictions: Path, references: Path, against: Path | None) -> list[list[CasePair]]:
    """Return the pairs of each set of predictions; of two sets all that have a partner."""
    from volseg.evaluation import pair_common_files, pair_files

    if against is None:
        return [pair_files(predictions, references)]
    found = []
    for folder in (predictions, against):
        pairs, without_reference, without_prediction = pair_common_files(folder, references)
        for kind, lone in (("reference", without_reference), ("prediction", without_prediction)):
            if lone:
                names = ", ".join(path.name for path in lone)
                errors.print(
                    f"{folder}: without a {kind}, and left out: {names}",
                    soft_wrap=True,
                    markup=False,
                )
        found.append(pairs)
    if not found[0] or not found[1]:
        raise InputError(
            f"{against if found[0] else predictions} has no case of {references}: names must agree "
            "but for an ending such as _seg."
        )
    if predictions.is_file():  # two files of one case, whatever they are called
        found[1] = [pair._replace(case=found[0][0].case) for pair in found[1]]
    return found


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return what two folders are called: by their last parts, if these differ."""
    names = first.resolve().name, second.resolve().name
    return names if names[0] != names[1] else (str(first), str(second))


def _labels(
    bundle: str | None, label: list[str] | None, ignore: int | None
) -> tuple[dict[str, tuple[int, ...]] | None, int | None]:
    """Return what is to be scored, and the value to ignore: as asked for, or as the bundle says."""
    structures = {
        name: tuple(values) for name, values in named_regions(label or (), option="--label").items()
    }
    if bundle is not None:
        from volseg.bundle import open_bundle

        opened = open_bundle(bundle)
        structures = structures or opened.structures
        ignore = opened.ignore if ignore is None else ignore
    return structures or None, ignore


def _channels(
    bundle: str | None, labels: Mapping[str, tuple[int, ...]] | None
) -> Mapping[str, Label] | None:
    """Return what the probabilities of a bundle are of, whatever is scored; None without a bundle.

    Raises:
        InputError: Regions were named by hand, which says nothing of the order of the channels.
    """
    if bundle is not None:
        from volseg.bundle import open_bundle

        opened = open_bundle(bundle)
        return opened.regions or opened.labels
    several = [name for name, values in (labels or {}).items() if len(values) > 1]
    if several:
        raise InputError(
            f"--label {several[0]} is a region, and the order of labels does not say which channel "
            "of the probabilities it is: name the bundle that wrote them (-b), too."
        )
    return None


def _patients(source: str, cases: list[str]) -> dict[str, str]:
    from volseg.evaluation import patients_by_pattern, patients_of_table, require_patients

    path = Path(source)
    if path.suffix.lower() == ".json":
        from volseg.data import read_datalist

        found = {case.case: case.patient for case in read_datalist(path)}
    elif path.suffix.lower() == ".csv":
        found = patients_of_table(path)
    else:
        return patients_by_pattern(source, cases)
    require_patients(found, cases, source)
    return found
