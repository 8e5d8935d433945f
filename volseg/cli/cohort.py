"""``volseg cohort``: many volumes, by many workers, with a table at the end."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.cohort_engine import EngineChoice, engine_choice
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.inference_options import Inference, inference
from volseg.cli.lists import words
from volseg.cli.option_groups import given
from volseg.cli.reading_options import reading
from volseg.cohort.presence import LEASE_SECONDS
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.cohort import CohortCase, CohortFolder, CohortStatus, Engine
    from volseg.io import ReadingOptions

app = typer.Typer(
    help="Segment many volumes: with many workers, resumable, with a table at the end.",
    no_args_is_help=True,
)
_Folder = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the cohort.")]
_Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
@given(inference=inference, reading=reading, engine=engine_choice)
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST|FOLDER",
            help="CSV, JSON or Parquet with the columns case and image (or one a channel of the "
            "bundle), or a folder: all images and DICOM series below it.",
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cohort.")],
    inference: Inference,
    reading: ReadingOptions,
    engine: EngineChoice,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of the results, some of: nifti, dicom-seg, dicom-labelmap, dicom-probabilities, "
            "rtstruct, sr.",
        ),
    ] = "nifti",
    as_json: _Json = False,
) -> None:
    """Segment all cases of a manifest or folder, and write OUT/table.csv (and .parquet).

    Run again, it goes on where it was: only cases are redone whose images, bundle or options
    changed. Cases that failed are left until `volseg cohort retry`, or until their images change.

    Workers of one machine share its cores and --memory.

    Exit code 0: all cases done; 1: some case failed; 2: wrong usage or an unusable manifest.
    """
    from volseg.cohort import CohortSettings, prepare_cohort
    from volseg.segmenter import result_files

    if reading.get("series") is not None:
        raise InputError(
            "--series cannot be the same for many cases: give the manifest that column."
        )
    how, choices = inference.execution_and_choices()
    wanted = tuple(words(formats))
    bundle = inference.bundle()
    result_files(out, "case", wanted, spatial_dims=bundle.spatial_dims)
    settings = CohortSettings.of_bundles(
        inference.bundles, choices=choices, reading=dict(reading), formats=wanted
    )
    cases = _cases(source, out, bundle.channels)
    started = engine.open(out, **how)
    _see_to_it(prepare_cohort(out, settings, cases), *started, as_json=as_json)


@app.command()
@given(engine=engine_choice)
def retry(
    out: _Folder,
    engine: EngineChoice,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This one, whatever became of it; repeatable."),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that failed; so it is without --case, too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    memory: Annotated[
        str | None, typer.Option(help="Most memory for all workers together, such as 16GB.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Execute code in the bundle's configuration.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Try cases again that failed, with the bundle and the options of the run.

    Exit codes as of `volseg cohort run`.
    """
    from volseg.cohort import CohortFolder, requeue

    cohort = CohortFolder.open(out)
    started = engine.open(out, device=device, memory=memory, trust_code=trust_code)
    if case:
        requeue(cohort, case)
    if failed or not case:
        requeue(cohort)
    _see_to_it(cohort, *started, as_json=as_json)


@app.command()
def status(
    out: _Folder,
    table: Annotated[
        bool, typer.Option("--table", help="Also write OUT/table.csv (and .parquet) as it is now.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show how far a cohort is, how long it will take, and what failed for which reason."""
    from volseg.cohort import CohortFolder, cohort_status, write_table

    cohort = CohortFolder.open(out)
    found = cohort_status(cohort)
    written = write_table(cohort) if table else []
    if as_json:
        print_json({**dataclasses.asdict(found), "tables": [str(path) for path in written]})
        return
    _show(found)
    for path in written:
        output.print(path, soft_wrap=True, markup=False)


@app.command()
def work(
    out: _Folder,
    run: Annotated[str, typer.Option(hidden=True)] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    memory: Annotated[
        str | None, typer.Option(help="Most memory for this process, such as 4GB.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Execute code in the bundle's configuration.")
    ] = False,
    lease: Annotated[float, typer.Option(min=1.0, metavar="SECONDS")] = LEASE_SECONDS,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the computations.")] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Be one more worker of a cohort that was begun, on this or on another machine.

    So any scheduler can be used: start this there as often as there is room.
    """
    from volseg.cohort import WorkerOptions
    from volseg.cohort import work as work_on

    options = WorkerOptions(run, device, memory, trust_code, lease, threads, parent)
    errors.print(f"{work_on(out, options)} cases finished")


def _cases(source: Path, out: Path, channels: list[str]) -> list[CohortCase]:
    from volseg.cohort import find_cases, read_manifest

    if source.is_dir():
        return find_cases(source, without=out)
    return read_manifest(source, channels=channels)


def _see_to_it(cohort: CohortFolder, engine: Engine, workers: int, *, as_json: bool) -> None:
    """Run what is queued, write the table, and say what became of all."""
    from volseg.cohort import cohort_status, run_cohort, write_table

    with progress_bar() as bar:
        task = bar.add_task("cases", total=None)
        try:
            run_cohort(
                cohort,
                engine,
                workers,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        except (KeyboardInterrupt, SystemExit):
            found = cohort_status(cohort)
            errors.print(
                f"{found.done} of {found.total} cases are done; the same command goes on from here."
            )
            raise
    tables = write_table(cohort)
    found = cohort_status(cohort)
    if as_json:
        print_json({**dataclasses.asdict(found), "tables": [str(path) for path in tables]})
    else:
        _show(found)
        output.print(tables[0], soft_wrap=True, markup=False)
    if found.done < found.total:
        raise typer.Exit(1)


def _show(found: CohortStatus) -> None:
    counts = {
        "done": found.done,
        "failed": found.failed,
        "being done": found.running,
        "waiting": found.waiting,
        "not begun": found.open,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    output.print(f"{found.total} cases: {told}", soft_wrap=True, markup=False)
    if found.seconds_left is not None and found.per_hour is not None:
        left = timedelta(seconds=round(found.seconds_left))
        output.print(f"{found.workers} workers, {found.per_hour:.0f} cases an hour, {left} left")
    for failure in found.failures:
        others = f" (and {failure.count - 1} like it)" if failure.count > 1 else ""
        errors.print(f"{failure.example}{others}: {failure.error}", soft_wrap=True, markup=False)
