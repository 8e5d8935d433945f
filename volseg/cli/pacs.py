"""``volseg pacs``: servers of DICOM objects, over DICOMweb and DIMSE."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli import pacs_options
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.option_groups import given

if TYPE_CHECKING:
    from rich.progress import TaskID

    from volseg.pacs import Anonymizer, Connection, SeriesQuery

app = typer.Typer(
    help=(
        "Find, fetch and push DICOM objects on a server: dicomweb://host[:port]/root (HTTP), "
        "dicomwebs://host[:port]/root (HTTPS), dimse://AE_TITLE@host[:port] or dimses://... (the "
        "same over TLS). Conditions may "
        'follow an address, as in "dicomwebs://host/root?patient=42&modality=CT".'
    ),
    no_args_is_help=True,
)

_Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="See `volseg pacs --help`.")]
_Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command("echo")
@given(connection=pacs_options.connection)
def echo(address: _Address, connection: Connection) -> None:
    """Make sure that a server is there and lets you in."""
    from volseg.pacs import open_server, parse_address

    server = open_server(parse_address(address), connection)
    server.echo()
    output.print(f"{server.name} answers.", soft_wrap=True, markup=False)


@app.command("find")
@given(conditions=pacs_options.conditions, connection=pacs_options.connection)
def find(
    address: _Address,
    conditions: SeriesQuery,
    connection: Connection,
    limit: Annotated[int, typer.Option(help="Show this many series at most.", min=1)] = 100,
    as_json: _Json = False,
) -> None:
    """List the series on a server that meet all conditions."""
    from volseg.pacs import find_series, open_server, parse_address

    place = parse_address(address)
    server = open_server(place, connection)
    found = find_series(server, place.query.merged(conditions), limit=limit + 1)
    if len(found) > limit:
        errors.print(f"there are more than {limit} series: narrow the search or raise --limit.")
    found = found[:limit]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        errors.print("nothing was found.")
    for one in found:
        number = "" if one.instances is None else f"{one.instances} instances"
        about = (one.date, one.patient, one.modality, one.description, number)
        # A UID on a line of its own is whole in any window, and easily copied.
        line = "  ".join(text for text in about if text)
        output.print(f"{line}\n    {one.series}", soft_wrap=True, markup=False, highlight=False)


@app.command("fetch")
@given(
    conditions=pacs_options.conditions,
    anonymizer=pacs_options.anonymizer_if_wanted,
    connection=pacs_options.connection,
)
def fetch(
    address: _Address,
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the series.")],
    conditions: SeriesQuery,
    anonymizer: Anonymizer | None,
    connection: Connection,
    as_json: _Json = False,
) -> None:
    """Fetch the series that meet all conditions, as they are stored; one folder each in OUT.

    The same command after an interruption fetches what is missing.
    """
    from volseg.errors import InputError, ServerError
    from volseg.pacs import fetch_series, find_series, open_server, parse_address

    place = parse_address(address)
    query = place.query.merged(conditions)
    if not query.has_conditions:
        raise InputError("a fetch without a condition is of all there is: give one, as --study.")
    server = open_server(place, connection)
    found = find_series(server, query)
    if not found:
        raise InputError(f"{server.name} has no series that meets the conditions.")
    rows: list[dict[str, Any]] = []
    with progress_bar() as bar:

        def advance(task: TaskID, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        for number, one in enumerate(found, 1):
            task = bar.add_task(f"series {number} of {len(found)}", total=one.instances)
            folder = out / (one.series if anonymizer is None else anonymizer.new_uid(one.series))
            row = {"series": folder.name, "folder": str(folder)}
            progress = partial(advance, task)
            try:
                files = fetch_series(server, one, folder, anonymizer=anonymizer, progress=progress)
            except (InputError, ServerError) as error:
                rows.append(row | {"status": "failed", "error": str(error)})
                errors.print(str(error), soft_wrap=True, markup=False)
                continue
            rows.append(row | {"status": "done", "instances": len(files)})
            if not as_json:
                output.print(str(folder), soft_wrap=True, markup=False)
    if as_json:
        print_json(rows)
    if any(row["status"] == "failed" for row in rows):
        raise typer.Exit(1)


@app.command("push")
@given(anonymizer=pacs_options.anonymizer_if_wanted, connection=pacs_options.connection)
def push(
    address: _Address,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="DICOM files, or folders of them.")
    ],
    anonymizer: Anonymizer | None,
    connection: Connection,
    again: Annotated[
        bool, typer.Option("--again", help="Send also what the server has already.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Send DICOM files of any kind to a server; what it has already is not sent again."""
    from volseg.errors import InputError
    from volseg.pacs import open_server, parse_address, push_files

    place = parse_address(address)
    if place.query.has_conditions:
        raise InputError(f"conditions have no meaning for a push: leave them out, as in {place}.")
    server = open_server(place, connection)
    with progress_bar() as bar:
        task = bar.add_task("instances", total=None)
        pushed = push_files(
            server,
            inputs,
            anonymizer=anonymizer,
            again=again,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(asdict(pushed))
        return
    had = f", {len(pushed.already_there)} were there" if pushed.already_there else ""
    output.print(f"{server.name}: {len(pushed.sent)} sent{had}.", soft_wrap=True, markup=False)
