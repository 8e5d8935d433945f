"""``volseg plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.label_options import named_regions
from volseg.cli.lists import words

if TYPE_CHECKING:
    from volseg.planning import Dataset, Fingerprint, LabelScheme, Plan


def plan(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder with images and labels, or a datalist (.json) of them."
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Bundle folder to make.")],
    preset: Annotated[
        str, typer.Option(help="plain (nnU-Net's U-Net, 2021), or residual: M, L, XL (2024).")
    ] = "plain",
    labels: Annotated[
        str | None,
        typer.Option(help="Classes: liver,tumour or liver=1,tumour=7; dataset.json by default."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Structure that contains others: tumour=1,2,3; outer ones first; likewise.",
        ),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Value in the labels of what nobody labelled; likewise.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Names of the image channels: t1,flair; likewise.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="CT, MR or another, of volumes; dataset.json by default.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Of the network's grid in mm, x,y,z; the median by default.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="A training step may take, such as 8GB; 80% of the device by default."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that the paths of a datalist are relative to.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV with the columns case and patient, of a folder.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Folds to deal the cases of a folder into; 5 by default.", min=2),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(
            help="Every fold gets its part of: labels (the default), a column of that CSV, or none."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Cases read at a time; one a processor by default, fewer where memory is short.",
            min=1,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="To train on: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Look at a data set, and make the bundle that fits it: untrained, all of it yours to edit.

    Cases that cannot be used are named, with the reason, and left out; the exit code is then 1.
    Run again after a stop, it goes on with the cases it has not seen.
    """
    from collections import Counter
    from dataclasses import replace

    from rich.markup import escape

    from volseg.bundle import require_free
    from volseg.data import LABELS
    from volseg.planning import (
        Wishes,
        find_preset,
        fingerprint_cases,
        make_plan,
        open_dataset,
        unnamed_labels,
        usable_memory,
        write_planned_bundle,
    )
    from volseg.segmenter import bytes_of, choose_device

    require_free(out)
    chosen = find_preset(preset)
    _require_options_of(source, data, patients=patients, folds=folds, stratify=stratify)
    dataset = open_dataset(
        source,
        data=data,
        patients=patients,
        folds=folds or 5,
        stratify=None if stratify == "none" else stratify or LABELS,
        channels=() if channels is None else words(channels),
    )
    scheme = _scheme(dataset.scheme, labels, region, ignore)
    # What is fitted on the labels goes by what was asked for, too.
    dataset = replace(dataset, scheme=scheme)
    allowed = usable_memory(choose_device(device)) if memory is None else bytes_of(memory)
    grid = None if spacing is None else _spacing(spacing)
    # What was seen is kept beside the bundle until that is written.
    named = out.resolve()
    journal = named.with_name(f"{named.name}.fingerprint.jsonl")
    kind = dataset.modality if modality is None else modality
    with progress_bar() as bar:
        task = bar.add_task("looking at the cases", total=len(dataset.files))

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        fingerprint = fingerprint_cases(
            dataset.files,
            values=scheme.values,
            ignore=scheme.ignore,
            constant_channels=kind.upper() == "CT",
            workers=workers,
            journal=journal,
            progress=show,
        )
        # Said now, as what follows may fail because of them.
        for fault in fingerprint.faults:
            what = escape(f"{fault.case}: {fault.sentence}")
            errors.print(f"[red]left out:[/] {what}", soft_wrap=True)
        _require_options_for(fingerprint.spatial_dims, grid, modality)
        cases, _ = dataset.dealt(fingerprint.label_voxels)
        wishes = Wishes(
            preset=chosen,
            scheme=scheme
            if scheme.labels
            else replace(scheme, labels=unnamed_labels(fingerprint.label_values)),
            memory=allowed,
            channels=dataset.named_channels,
            modality=kind,
            spacing=grid,
            folds=dataset.folds,
            largest_fold=max(Counter(case.fold for case in cases).values()),
        )
        made = make_plan(fingerprint, wishes)
        bar.update(task, description="writing the bundle", completed=0)
        bundle = write_planned_bundle(out, made, dataset, fingerprint, progress=show)
    journal.unlink(missing_ok=True)
    if as_json:
        print_json(_as_json(bundle.folder, made, fingerprint))
    else:
        output.print(str(bundle.folder), soft_wrap=True, markup=False)
        errors.print(wishes.scheme.describe(), soft_wrap=True, markup=False)
        _show(made, fingerprint, dataset)
        errors.print(
            f"train it with: volseg train {bundle.folder} --data {dataset.folder} -o OUT",
            soft_wrap=True,
            markup=False,
        )
    if fingerprint.faults:
        raise typer.Exit(1)


def _show(plan: Plan, fingerprint: Fingerprint, dataset: Dataset) -> None:
    """Say on standard error what was chosen, and what somebody should know."""
    from rich.markup import escape
    from rich.table import Table

    composition = plan.composition
    errors.print(
        f"{len(fingerprint.cases)} of {len(dataset.files)} cases, network {composition.network}, "
        f"{plan.memory.total / 1e9:.2g} GB for a training step"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    for name, value in {"recipe": composition.recipe, **composition.values}.items():
        table.add_row(name, escape(str(value)), escape(composition.reasons[name]))
    errors.print(table)
    for remark in plan.remarks:
        errors.print(f"[yellow]note:[/] {escape(remark)}", soft_wrap=True)


def _as_json(folder: Path, plan: Plan, fingerprint: Fingerprint) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "bundle": str(folder),
        "composition": plan.composition.as_metadata(),
        "cases": len(fingerprint.cases),
        "left_out": [asdict(fault) for fault in fingerprint.faults],
        "remarks": list(plan.remarks),
        "step_bytes": asdict(plan.memory) | {"total": plan.memory.total},
    }


def _scheme(
    stated: LabelScheme, labels: str | None, regions: list[str] | None, ignore: int | None
) -> LabelScheme:
    """Return what the values in the label files stand for: as asked for, or as the data say."""
    from dataclasses import replace

    from volseg.errors import InputError
    from volseg.planning import LabelScheme, named_labels, scheme_of_regions

    if labels is not None and regions:
        raise InputError(
            "--labels names classes that are apart, --region structures that contain each other: "
            "give one of them."
        )
    if ignore is None:
        ignore = stated.ignore
    if regions:
        return scheme_of_regions(named_regions(regions), ignore=ignore)
    if labels is not None:
        return LabelScheme(named_labels(labels), (), ignore)
    return replace(stated, ignore=ignore)


def _require_options_of(source: Path, data: Path | None, **dealing: object) -> None:
    """Refuse options that a folder, or a datalist, cannot follow.

    Args:
        source: It.
        data: What the paths of a datalist are relative to.
        dealing: How the cases of a folder are dealt, by option; None where nothing was said.

    Raises:
        InputError: There is one.
    """
    from volseg.errors import InputError

    if data is not None and source.is_dir():
        raise InputError(f"--data is of a datalist, but {source} is a folder: leave it out.")
    for name, value in dealing.items():
        if value is not None and source.is_file():
            raise InputError(
                f"--{name} is of a folder, but the datalist {source} says itself what patient and "
                "fold each case has: leave it out, or give the folder."
            )


def _require_options_for(
    axes: int, spacing: tuple[float, ...] | None, modality: str | None
) -> None:
    """Refuse options that images of so many axes cannot follow.

    Raises:
        InputError: There is one.
    """
    from volseg.errors import InputError

    if axes == 2 and spacing is not None:
        raise InputError(
            "--spacing is of volumes, but these are pictures, which keep their pixels: leave it "
            "out, or resample the files."
        )
    if axes == 2 and modality is not None and modality.upper() == "CT":
        raise InputError(
            "--modality CT is of volumes in Hounsfield units, but these are pictures, which are "
            "standardised one by one: leave it out, or give the volumes."
        )
    if spacing is not None and len(spacing) != axes:
        raise InputError(f"--spacing has {len(spacing)} numbers, but the images have {axes} axes.")


def _spacing(text: str) -> tuple[float, ...]:
    from volseg.errors import InputError

    try:
        steps = tuple(float(step) for step in text.split(","))
    except ValueError:
        steps = ()
    if not steps or not all(0 < step < float("inf") for step in steps):
        raise InputError(
            f"--spacing {text!r} cannot be read: expected sizes in mm with commas between them."
        )
    return steps
