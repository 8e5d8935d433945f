"""``volseg networks``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from volseg.cli.console import output, print_json


def networks(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the networks with their parameters, counted now, beside the reference count."""
    import torch
    from rich.table import Table

    from volseg.networks import build_network, list_networks, network_spec

    rows: list[dict[str, Any]] = []
    for name in list_networks():
        spec = network_spec(name)
        with torch.device("meta"):
            network = build_network(name, preset="reference", **spec.reference_input)
        rows.append(
            {
                "name": name,
                "title": spec.title,
                "paper": spec.paper,
                "reference_input": dict(spec.reference_input),
                "parameters": sum(p.numel() for p in network.parameters()),
                "reference_parameters": spec.reference_parameters,
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table("name", "what", "parameters", "reference", "source")
    for row in rows:
        table.add_row(
            row["name"],
            row["title"],
            f"{row['parameters']:,}",
            f"{row['reference_parameters']:,}" if row["reference_parameters"] else "-",
            row["paper"],
        )
    output.print(table)
