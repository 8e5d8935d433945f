"""``volseg networks``."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

from volseg.cli.console import output, print_json

_WIDE_ENOUGH_FOR_TITLES = 110


def networks(
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable, with presets and all else known.")
    ] = False,
) -> None:
    """List the networks with their counts, made now, beside those their sources print."""
    from volseg.networks import list_networks

    rows = [_described(name) for name in list_networks()]
    if as_json:
        print_json(rows)
    else:
        _print_table(rows)


def _described(name: str) -> dict[str, Any]:
    """Return all that the registry knows of a network, and its counts as built here."""
    import torch

    from volseg.networks import (
        build_network,
        count_multiply_accumulates,
        count_parameters,
        network_spec,
    )

    spec = network_spec(name)
    row = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "build"}
    with torch.device("meta"):
        network = build_network(name, preset="reference", **spec.reference_input)
    row["parameters"] = count_parameters(network)
    row["macs"] = None
    if spec.reference_size:
        channels = spec.reference_input["in_channels"]
        row["macs"] = count_multiply_accumulates(network, channels, spec.reference_size)
    return row


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    # What would be cut on a narrow terminal is the title; it is in --json, too.
    titled = output.width >= _WIDE_ENOUGH_FOR_TITLES
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    if titled:
        table.add_column("what")
    for heading in ("parameters", "published", "MACs", "published", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    notes = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(
            row["name"],
            *([Text(row["title"])] if titled else []),
            f"{row['parameters']:,}",
            row["published_parameters"] or "-",
            "-" if row["macs"] is None else f"{row['macs'] / 1e9:.2f} G",
            row["published_macs"] or "-",
            "x".join(map(str, row["reference_size"])) or "-",
        )
        if row["difference"]:
            notes.add_row(row["name"], Text(row["difference"]))
    output.print(table)
    output.print(
        "\nCounted now, on the reference preset; published is what the source prints (-: nothing). "
        "MACs are the multiply-accumulates of convolutions and matrix products in one evaluation "
        "of an image of that size."
    )
    output.print("\nWhere and why the counts differ:")
    output.print(Padding(notes, (0, 0, 0, 2)))
