"""``volseg bundle``: list, verify, make new ones from recipes, tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.atomic import require_writable
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.label_options import named_regions
from volseg.cli.lists import numbers, words
from volseg.cli.setting_options import named_values

if TYPE_CHECKING:
    from volseg.bundle import Region
    from volseg.choosing import TuningTable

app = typer.Typer(help="List, verify, make and tune bundles.", no_args_is_help=True)


@app.command("list")
def list_bundles(
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER]...", help="Bundles of your own, listed as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the bundles that come with volseg.

    With --json also what they take and give: channels, labels, their codes and colours.
    """
    from rich.table import Table

    from volseg.bundle import describe_bundle, open_bundle, shipped_bundles

    bundles = [open_bundle(bundle) for bundle in [*shipped_bundles(), *(folders or ())]]
    if as_json:
        print_json([describe_bundle(bundle) | {"folder": str(bundle.folder)} for bundle in bundles])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for heading in ("version", "dims", "trained", "labels"):
        table.add_column(heading)
    for bundle in bundles:
        labels = ", ".join(f"{value} {name}" for name, value in bundle.labels.items())
        trained = "yes" if bundle.weights.is_file() else "no"
        version = str(bundle.metadata.get("version", ""))
        table.add_row(bundle.name, version, f"{bundle.spatial_dims}D", trained, labels)
    output.print(table)


@app.command("verify")
def verify(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Check a bundle without executing code it holds; exit code 1 if a check fails."""
    from rich.markup import escape

    from volseg.bundle import verify_bundle

    checks = verify_bundle(bundle)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
            output.print(f"{mark}  {check.name}: {escape(check.detail)}", soft_wrap=True)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command("recipes")
def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the recipes that new bundles are composed of."""
    from rich.table import Table

    from volseg.bundle import list_recipes

    found = list_recipes()
    if as_json:
        print_json([asdict(recipe) | {"spatial_dims": recipe.spatial_dims} for recipe in found])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("dims")
    table.add_column("for")
    for recipe in found:
        table.add_row(recipe.name, f"{recipe.spatial_dims}D", recipe.about)
    output.print(table)


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to make; its name is the bundle's.")],
    network: Annotated[str, typer.Option(help="See `volseg networks`.")],
    recipe: Annotated[str, typer.Option(help="See `volseg bundle recipes`.")],
    labels: Annotated[
        str | None, typer.Option(help="Classes in the order of their values: liver,tumour.")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Structure of classes that contains others: tumour=1,2,3; outer ones first.",
        ),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Value in the labels of what nobody labelled, such as 255.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Names of the image channels, in order, each a file: t1,flair."),
    ] = None,
    dims: Annotated[
        int | None, typer.Option(help="2 or 3; only checked, the recipe says which.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Instead of the recipe's own.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A value of the recipe, in YAML."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with images/ and labels/ to list in five folds.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV with the columns case and patient, of that folder.")
    ] = None,
) -> None:
    """Make a self-contained, untrained bundle: network, transforms, training and inference.

    For example: volseg bundle new liver --network resencunet --recipe ct --labels liver,tumour
    --set "spacing=[1.5, 1.5, 2.0]" --data liver_data/

    Structures that contain each other, as nnU-Net's regions: --region whole_tumour=1,2,3
    --region tumour_core=2,3 --region enhancing=3 in place of --labels.
    """
    from volseg.bundle import Composition, find_recipe, make_regions, new_bundle
    from volseg.errors import InputError

    found = find_recipe(recipe).spatial_dims
    if dims is not None and dims != found:
        raise InputError(
            f"the recipe {recipe} is for {found}D images, but --dims {dims} was asked for: choose "
            "another recipe (volseg bundle recipes)."
        )
    regions = make_regions(named_regions(region or ()))
    composition = Composition(
        network=network,
        recipe=recipe,
        labels=_class_names(labels, regions),
        channels=() if channels is None else tuple(words(channels)),
        loss=loss,
        regions=regions,
        ignore=ignore,
        values=named_values(change or ()),
    )
    if patients is not None and data is None:
        raise InputError("--patients says whom the cases of --data are of: give both, or neither.")
    bundle = new_bundle(folder, composition, data=data, patients=patients)
    output.print(str(bundle.folder), soft_wrap=True, markup=False)
    errors.print(
        f"train it with: volseg train {bundle.folder} --data DATA -o OUT; what it holds is in "
        f"{bundle.folder / 'configs'}, yours to edit.",
        soft_wrap=True,
        markup=False,
    )


@app.command("ensemble")
def ensemble(
    bundles: Annotated[
        list[str], typer.Argument(help="Names of shipped bundles, or bundle folders: the members.")
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to make; its name is the bundle's.")
    ],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="What is to hold where members differ, in YAML."
        ),
    ] = None,
) -> None:
    """Make one bundle of several: the mean of their probabilities.

    It holds all their weights and is used like any other. The members prepare an image, cut it
    into tiles and decide alike; folds of one cross-validation do, and other networks may.
    """
    from volseg.bundle import make_ensemble

    bundle = make_ensemble(out, bundles, values=named_values(change or ()))
    output.print(str(bundle.folder), soft_wrap=True, markup=False)
    errors.print(
        f"use it with: volseg segment INPUT -o OUT --bundle {bundle.folder}",
        soft_wrap=True,
        markup=False,
    )


@app.command("tune")
def tune(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set the bundle lists.")],
    cases: Annotated[
        int | None, typer.Option(help="How many held-out cases; all by default.", min=1)
    ] = None,
    overlaps: Annotated[
        str, typer.Option(help="Of neighbouring tiles, from 0.")
    ] = "0,0.125,0.25,0.5",
    tiles: Annotated[
        str | None,
        typer.Option(help='In voxels, as "64,64,72;96,96,96"; the patch and larger by default.'),
    ] = None,
    precisions: Annotated[
        str | None, typer.Option(help="f32,bf16 on a CPU and f16,bf16 on a GPU by default.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also show tiles mirrored, as in training.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="Dice that may be lost against the best.", min=0)
    ] = 0.001,
    fold: Annotated[int, typer.Option(help="Fold that was held out in training.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was measured before a stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Find the fastest setting that keeps the Dice of held-out cases, and make it the default.

    Dice and seconds a case of every setting are kept in configs/tuning.json of the bundle. Where
    tiles are shown mirrored along other axes than before, what is usual for cases is taken away:
    learn it again with `volseg bundle quality`.
    """
    from volseg.choosing import record_tuning, tune_bundle

    with progress_bar() as bar:
        runs = bar.add_task("reading the cases", total=None)
        try:
            table = tune_bundle(
                bundle,
                data,
                fold=fold,
                cases=cases,
                overlaps=numbers("--overlaps", overlaps, float, example="0,0.25,0.5"),
                tiles=None if tiles is None else _tiles(tiles),
                precisions=None if precisions is None else words(precisions),
                mirror=mirror,
                tolerance=tolerance,
                device=device,
                resume=resume,
                progress=lambda done, total, what: bar.update(
                    runs, completed=done, total=total, description=what
                ),
            )
        except KeyboardInterrupt:
            errors.print("what was measured is kept: go on with --resume.")
            raise
    if as_json:
        print_json(table.to_json())
    else:
        _show(table)
    version = record_tuning(bundle, table).metadata["version"]
    errors.print(
        f"stored as version {version}; the table is in configs/tuning.json.", soft_wrap=True
    )


@app.command("quality")
def quality(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set the bundle lists.")],
    fold: Annotated[int, typer.Option(help="Fold that was held out in training.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Learn what is usual in the bundle's cases, for the quality checks of what it segments.

    From training images under their labels and from predictions of held-out cases; kept in
    configs/quality.json of the bundle. `volseg train` does the same.
    """
    from volseg.bundle import open_bundle
    from volseg.choosing import learn_quality, record_quality

    require_writable(open_bundle(bundle).folder / "configs" / "metadata.json")
    with progress_bar() as bar:
        cases = bar.add_task("measuring the cases", total=None)
        limits = learn_quality(
            bundle,
            data,
            fold=fold,
            device=device,
            progress=lambda done, total: bar.update(cases, completed=done, total=total),
        )
    if as_json:
        print_json(limits.to_json())
    version = record_quality(bundle, limits).metadata["version"]
    errors.print(
        f"stored as version {version}; the limits are in configs/quality.json.", soft_wrap=True
    )


def _show(table: TuningTable) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for heading in ("tile", "overlap", "mirrored", "precision", "Dice", "s a case", ""):
        shown.add_column(heading, no_wrap=True)
    not_run: dict[str, int] = {}
    for row in sorted(table.rows, key=lambda row: row.seconds or 0):
        if row.seconds is None:
            reason = row.reason or ""
            not_run[reason] = not_run.get(reason, 0) + 1
            continue
        setting = row.setting
        marks = {"chosen": table.chosen, "present": table.present}
        shown.add_row(
            " x ".join(map(str, setting.tile)),
            f"{setting.overlap:g}",
            "".join("xyz"[axis] for axis in setting.mirror_axes) or "no",
            setting.precision,
            "-" if row.dice is None else f"{row.dice:.4f}",
            f"{row.seconds:.3g}",
            ", ".join(mark for mark, marked in marks.items() if setting == marked),
        )
    output.print(shown)
    for reason, number in not_run.items():
        errors.print(f"{number} not run: {reason}", soft_wrap=True, markup=False)


def _tiles(text: str) -> list[list[int]]:
    return [numbers("--tiles", tile, int, example="64,64,72") for tile in text.split(";")]


def _class_names(labels: str | None, regions: Sequence[Region]) -> tuple[str, ...]:
    from volseg.bundle import value_names
    from volseg.errors import InputError

    if labels is not None:
        return tuple(words(labels))
    if not regions:
        raise InputError(
            "a bundle needs the names of its classes (--labels liver,tumour), or of structures "
            "that contain each other (--region tumour=1,2 --region core=2)."
        )
    return tuple(value_names(regions).values())
