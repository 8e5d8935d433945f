"""``volseg bundle list`` and ``volseg bundle verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from volseg.cli.console import output, print_json

app = typer.Typer(help="List and verify bundles.", no_args_is_help=True)


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
                "labels": bundle.labels,
                "trained": bundle.weights.is_file(),
                "folder": str(folder),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table("name", "version", "task", "labels", "trained")
    for row in rows:
        labels = ", ".join(f"{value} {name}" for name, value in row["labels"].items())
        trained = "yes" if row["trained"] else "no"
        table.add_row(row["name"], row["version"], row["task"], labels, trained)
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
