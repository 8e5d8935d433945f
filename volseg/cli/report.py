"""``volseg report``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.lists import words
from volseg.errors import InputError


def report(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RESULT...]",
            help="Folders that volseg segment wrote, or results in them such as case_seg.nii.gz.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the pages.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, if they are not where they were segmented."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV with a column case; its other columns are shown, too."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Which of these: age,group for example; all by default.")
    ] = None,
    viewer: Annotated[
        Path | None, typer.Option(help="niivue.umd.js of NiiVue, fetched by other means.")
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch-viewer",
            help="Fetch the viewer NiiVue (2 MB kept) from the npm registry, once for this user.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Write a page for each segmented case, and index.html of all of them: to look at, offline.

    Each page is one file that needs no network. With the viewer it has planes to scroll through
    and the structures in 3D; without it pictures of the planes.

    Exit code 0: all pages written; 1: some case has none; 2: nothing could be used.
    """
    from volseg.report import (
        fetch_viewer,
        find_records,
        find_viewer,
        read_further_columns,
        write_report,
    )

    if fetch:
        errors.print(f"the viewer is at {fetch_viewer()}", soft_wrap=True, markup=False)
        if not inputs:
            return
    if not inputs or out is None:
        raise InputError("volseg report needs results and a folder: volseg report OUT -o report/")
    records = find_records(inputs)
    further = None
    if table is not None:
        wanted = None if columns is None else words(columns)
        further = read_further_columns(table, wanted)
    with progress_bar() as bar:
        pages = bar.add_task("pages", total=len(records))
        outcomes = write_report(
            records,
            out,
            images=images,
            viewer=viewer or find_viewer(),
            further=further,
            progress=lambda done, _: bar.update(pages, completed=done),
        )
    if as_json:
        print_json([{**asdict(one), "page": one.page and str(one.page)} for one in outcomes])
    for one in outcomes:
        if one.error is not None:
            errors.print(f"{one.case}: {one.error}", soft_wrap=True, markup=False)
    if not as_json:
        output.print(str(out / "index.html"), soft_wrap=True, markup=False)
    if any(one.error is not None for one in outcomes):
        raise typer.Exit(1)
