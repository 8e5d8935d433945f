"""``volseg anonymize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli import pacs_options
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.option_groups import given

if TYPE_CHECKING:
    from volseg.pacs import Anonymizer


@given(anonymizer=pacs_options.anonymizer)
def anonymize(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="DICOM files, or folders of them.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the copies.")],
    anonymizer: Anonymizer,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Write copies of DICOM files without what tells who the patient is (PS3.15, basic profile).

    The copies are named by their new UIDs: OUT/<series>/<instance>.dcm. Pixels stay as they are;
    files that may have text in them are refused. Exit code 1: some file was refused.
    """
    from volseg.pacs import anonymize_files

    with progress_bar() as bar:
        task = bar.add_task("files", total=None)
        done = anonymize_files(
            inputs,
            out,
            anonymizer,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    refused = {str(path): reason for path, reason in done.refused.items()}
    for path, reason in refused.items():
        text = reason if path in reason else f"{path}: {reason}"
        errors.print(text, soft_wrap=True, markup=False)
    if as_json:
        print_json({"written": [str(path) for path in done.written], "refused": refused})
    else:
        output.print(f"{out}: {len(done.written)} files", soft_wrap=True, markup=False)
    if refused:
        raise typer.Exit(1)
