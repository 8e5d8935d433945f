"""``volseg demo``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.console import output, print_json, progress_bar


def demo(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed is another anatomy.", min=0, max=999)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Segment a made-up volume whose truth is known, and show how well that went."""
    with progress_bar() as bar:
        tiles = bar.add_task("phantom and segmentation", total=None)
        from volseg.demonstration import run_demonstration

        result = run_demonstration(
            out,
            seed=seed,
            device=device,
            progress=lambda done, total: bar.update(tiles, completed=done, total=total),
        )
    if as_json:
        print_json(
            {
                "scores": [asdict(score) for score in result.scores],
                "files": {name: str(path) for name, path in result.files.items()},
            }
        )
        return
    from rich.table import Table

    table = Table("label", "Dice", "volume error mL", title="against the known truth")
    for score in result.scores:
        table.add_row(score.name, f"{score.dice:.4f}", f"{score.volume_error_ml:+.2f}")
    output.print(table)
    for name, path in result.files.items():
        output.print(f"{name}: {path}", soft_wrap=True, markup=False)
