"""``volseg serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli import pacs_options
from volseg.cli.console import errors
from volseg.cli.option_groups import given
from volseg.errors import MissingPackageError

if TYPE_CHECKING:
    from volseg.pacs import Connection


@given(connection=pacs_options.connection_of_server)
def serve(
    bundle: Annotated[
        list[str],
        typer.Option("--bundle", "-b", help="Name of a shipped bundle, or a folder; repeatable."),
    ],
    connection: Connection,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    token: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="Asked of clients; kept in env:NAME or file:PATH."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="For HTTPS, with --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Of the certificate.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keeps jobs and uploads; in your own data folder by default."),
    ] = None,
    datastore: Annotated[
        Path | None,
        typer.Option(help="Images and labels for MONAI Label; FOLDER/datastore by default."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="auto (every GPU, or the processor), cpu, cuda:N; repeatable."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Most memory for what computes, such as 4GB.")
    ] = None,
    allow_pacs: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Server that jobs may fetch series from; repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Web page that may call from a browser; repeatable."),
    ] = None,
    upload_limit: Annotated[str, typer.Option(help="Largest request.")] = "4GB",
    disk_limit: Annotated[str, typer.Option(help="For all jobs and sessions together.")] = "64GB",
    queue_limit: Annotated[int, typer.Option(help="Most jobs that wait.", min=1)] = 256,
    keep_hours: Annotated[
        float, typer.Option(help="How long a job is kept after its end.", min=0)
    ] = 24.0,
) -> None:
    """Serve bundles over HTTP: a web page, jobs under /v1, and the protocol of MONAI Label."""
    import logging

    import platformdirs

    from volseg.pacs import read_secret
    from volseg.segmenter import bytes_of

    try:
        from volseg.server import Limits, ServerSettings
        from volseg.server import serve as run
    except ModuleNotFoundError as error:
        raise MissingPackageError("volseg serve", str(error.name), "server") from error

    logging.getLogger("volseg.server").setLevel(logging.INFO)
    settings = ServerSettings(
        folder=folder or platformdirs.user_data_path("volseg", appauthor=False) / "server",
        bundles=tuple(bundle),
        host=host,
        port=port,
        token=None if token is None else read_secret(token, "--token"),
        certificate=certificate,
        key=key,
        datastore=datastore,
        devices=tuple(device or ["auto"]),
        memory=memory,
        pacs=tuple(allow_pacs or []),
        connection=connection,
        origins=tuple(allow_origin or []),
        limits=Limits(
            upload_bytes=bytes_of(upload_limit),
            unpacked_bytes=4 * bytes_of(upload_limit),
            disk_bytes=bytes_of(disk_limit),
            waiting_jobs=queue_limit,
            keep_seconds=keep_hours * 3600,
        ),
    )
    run(settings, lambda address: errors.print(f"serving at {address}", soft_wrap=True))
