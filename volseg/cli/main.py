"""The command line: its commands, and how errors become one sentence and an exit code."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

import volseg
from volseg.cli import (
    anonymize,
    bundle,
    bundle_decisions,
    cohort,
    convert,
    crossval,
    demo,
    evaluate,
    inspect,
    networks,
    pacs,
    plan,
    postprocess,
    report,
    segment,
    serve,
    standardize,
    train,
)
from volseg.cli.console import errors
from volseg.errors import ServerError, VolsegError

_INTERRUPTED = 130  # what typer exits with after Ctrl-C, as shells do
_TERMINATED = 128 + signal.SIGTERM

app = typer.Typer(
    name="volseg",
    help="Medical image segmentation in 2D and 3D. Research software, not a medical device.",
    epilog="Exit codes: 0 fine, 1 some case or a server failed, 2 wrong usage or unusable input.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("segment")(segment.segment)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("crossval")(crossval.crossval)
app.command("evaluate")(evaluate.evaluate)
app.command("convert")(convert.convert)
app.command("inspect")(inspect.inspect)
app.command("networks")(networks.networks)
app.command("anonymize")(anonymize.anonymize)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.add_typer(pacs.app, name="pacs")
app.add_typer(bundle.app, name="bundle")
bundle.app.command("threshold")(bundle_decisions.threshold)
bundle.app.command("calibrate")(bundle_decisions.calibrate)
app.add_typer(cohort.app, name="cohort")
app.add_typer(postprocess.app, name="postprocess")
app.add_typer(standardize.app, name="standardize")
app.command("demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"volseg {volseg.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and details; works anywhere.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in `SystemExit`.

    Args:
        arguments: Words after the program's name; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _configure_logging(debug)
    try:
        with _ending_when_told():
            app(args=words, prog_name="volseg")
    except VolsegError as error:
        if debug:
            raise
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
        raise SystemExit(1 if isinstance(error, ServerError) else 2) from error
    except Exception as error:
        if debug:
            raise
        errors.print(
            f"[bold red]unexpected error[/] {type(error).__name__}: {_escaped(str(error))} "
            "(details with --debug)",
            soft_wrap=True,
        )
        raise SystemExit(1) from error
    except SystemExit as end:
        if end.code in (_INTERRUPTED, _TERMINATED):
            errors.print("interrupted; nothing half-written was left behind.")
        raise


@contextlib.contextmanager
def _ending_when_told() -> Iterator[None]:
    """Unwind when schedulers and containers ask for an end, so that no half-written file stays."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # tidying up is not disturbed
        raise SystemExit(_TERMINATED)

    # Only the main thread may, and a host program's own way is left to it.
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _configure_logging(debug: bool) -> None:
    from rich.logging import RichHandler

    handler = RichHandler(console=errors, show_time=False, show_path=debug, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("volseg").setLevel(logging.DEBUG if debug else logging.WARNING)
    if not debug:
        # The first use of a bundle takes some seconds longer: it says why.
        logging.getLogger("volseg.predictors.making").setLevel(logging.INFO)
        logging.getLogger("monai").setLevel(logging.ERROR)
        # What goes wrong with a server is said in our own sentence.
        for library in ("dicomweb_client", "pynetdicom", "retrying", "urllib3"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        handler.addFilter(_is_no_rule_of_pydicom)


def _is_no_rule_of_pydicom(record: logging.LogRecord) -> bool:
    """Keep from users what breaks the rules on values; pydicom sets its level when imported."""
    return record.name != "pydicom" or record.levelno >= logging.ERROR


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
