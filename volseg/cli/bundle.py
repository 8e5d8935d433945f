"""``volseg bundle``: list, verify, make new ones from recipes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from volseg.cli.console import errors, output, print_json

app = typer.Typer(help="List, verify and make bundles.", no_args_is_help=True)


@app.command("list")
def list_bundles(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the bundles that come with volseg."""
    from rich.table import Table

    from volseg.bundle import open_bundle, shipped_bundles

    rows: list[dict[str, Any]] = []
    for name, folder in shipped_bundles().items():
        bundle = open_bundle(folder)
        rows.append(
            {
                "name": name,
                "version": bundle.metadata.get("version"),
                "task": bundle.metadata.get("task"),
                "spatial_dims": bundle.spatial_dims,
                "labels": bundle.labels,
                "trained": bundle.weights.is_file(),
                "folder": str(folder),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for heading in ("version", "dims", "trained", "labels"):
        table.add_column(heading)
    for row in rows:
        labels = ", ".join(f"{value} {name}" for name, value in row["labels"].items())
        trained = "yes" if row["trained"] else "no"
        table.add_row(row["name"], row["version"], f"{row['spatial_dims']}D", trained, labels)
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
        str, typer.Option(help="Classes in the order of their values: liver,tumour.")
    ],
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
) -> None:
    """Make a self-contained, untrained bundle: network, transforms, training and inference.

    For example: volseg bundle new liver --network resencunet --recipe ct --labels liver,tumour
    --set "spacing=[1.5, 1.5, 2.0]" --data liver_data/
    """
    from volseg.bundle import Composition, find_recipe, new_bundle
    from volseg.errors import InputError

    found = find_recipe(recipe).spatial_dims
    if dims is not None and dims != found:
        raise InputError(
            f"the recipe {recipe} is for {found}D images, but --dims {dims} was asked for: choose "
            "another recipe (volseg bundle recipes)."
        )
    composition = Composition(
        network=network,
        recipe=recipe,
        labels=tuple(name.strip() for name in labels.split(",")),
        loss=loss,
        values=dict(_setting(text) for text in change or ()),
    )
    bundle = new_bundle(folder, composition, data=data)
    output.print(str(bundle.folder), soft_wrap=True)
    errors.print(
        f"train it with: volseg train {bundle.folder} --data DATA -o OUT; what it holds is in "
        f"{bundle.folder / 'configs'}, yours to edit.",
        soft_wrap=True,
    )


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    from volseg.errors import InputError

    name, equals, value = text.partition("=")
    try:
        if not (name and equals):
            raise ValueError("no name or no '='")
        return name.strip(), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"--set {text!r} cannot be read: expected NAME=VALUE with a YAML value, such as "
            '"patch=[64, 64, 64]".'
        ) from error
