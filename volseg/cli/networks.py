"""``volseg networks``."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

from volseg.cli.console import output, print_json

_NARROWEST = 100


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

    table = Table("name", "what", box=None, pad_edge=False)
    for heading in ("parameters", "published", "MACs", "published", "at size"):
        table.add_column(heading, justify="right", no_wrap=True)
    notes = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(
            row["name"],
            Text(row["title"]),
            f"{row['parameters']:,}",
            row["published_parameters"] or "-",
            "-" if row["macs"] is None else f"{row['macs'] / 1e9:.2f} G",
            row["published_macs"] or "-",
            "x".join(map(str, row["reference_size"])) or "-",
        )
        if row["difference"]:
            notes.add_row(row["name"], Text(row["difference"]))
    # Narrower than this, numbers would be cut; a pipe or a file counts as 80 columns.
    output.print(table, width=max(output.width, _NARROWEST), crop=False)
    output.print(
        "\nCounted now, on the reference preset; published is what the source prints (-: nothing). "
        "MACs are the multiply-accumulates of convolutions and matrix products in one evaluation."
    )
    output.print("\nWhere and why the counts differ:")
    output.print(Padding(notes, (0, 0, 0, 2)))
