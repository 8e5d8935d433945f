"""Where the command line writes: results to standard output, all else to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

output = Console()
errors = Console(stderr=True)


def progress_bar(*, shown: bool = True) -> Progress:
    """Return a progress display on standard error; silent where that is not a terminal.

    Args:
        shown: whether there is one at all.
    """
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not (shown and errors.is_terminal),
    )


def print_json(value: Any) -> None:
    """Write ``value`` as JSON to standard output, for scripts."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201 - the one place results go
