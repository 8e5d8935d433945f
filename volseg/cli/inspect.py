"""``volseg inspect``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.console import output, print_json


def inspect(
    path: Annotated[Path, typer.Argument(help="An image file, or a folder of one DICOM series.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show geometry, type and range of an image, and what is odd about it."""
    from volseg.io import describe_image

    description = describe_image(path)
    if as_json:
        print_json(asdict(description))
        return
    for name, value in asdict(description).items():
        if name == "remarks":
            continue
        output.print(f"{name.replace('_', ' ')}: {_readable(value)}", soft_wrap=True, markup=False)
    for remark in description.remarks:
        output.print(f"note: {remark}", soft_wrap=True, markup=False, style="yellow")


def _readable(value: object) -> str:
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list | tuple):
            return "".join(f"\n  {_readable(row)}" for row in value)
        return " ".join(_readable(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)
