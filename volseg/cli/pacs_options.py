"""Options of commands that reach a server of DICOM objects, or anonymize: see `given`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.option_groups import options_under

if TYPE_CHECKING:
    from volseg.pacs import Anonymizer, Connection, Credentials, SeriesQuery

_option = options_under("Servers")


_CaFile = Annotated[
    str | None,
    _option(metavar="PEM", help="Certificates to trust over TLS instead of the usual."),
]
_ClientCert = Annotated[
    str | None,
    _option(metavar="PEM", help="Certificate of this side, for servers that ask for one."),
]
_ClientKey = Annotated[
    str | None,
    _option(metavar="PEM", help="Its private key, if that is in a file of its own."),
]
_Timeout = Annotated[float, _option(help="Seconds that a server may be silent.")]
_AeTitle = Annotated[str, _option("--aet", help="What this side is called in DIMSE.")]


def connection(
    token: Annotated[
        str | None,
        _option(metavar="WHERE", help="Bearer token, kept in env:NAME or file:PATH."),
    ] = None,
    user: Annotated[
        str | None, _option(help="User of basic authentication, with --password.")
    ] = None,
    password: Annotated[
        str | None, _option(metavar="WHERE", help="Kept in env:NAME or file:PATH.")
    ] = None,
    ca_file: _CaFile = None,
    client_cert: _ClientCert = None,
    client_key: _ClientKey = None,
    timeout: _Timeout = 30.0,
    ae_title: _AeTitle = "VOLSEG",
    listen: Annotated[
        str | None,
        _option(
            metavar="[HOST:]PORT",
            help="Fetch by C-MOVE to this port, which the server must know; else by C-GET.",
        ),
    ] = None,
) -> Connection:
    """Return how servers are reached; secrets are read from where the options say they are."""
    from volseg.pacs import Connection, Tls

    return Connection(
        credentials=_credentials(token, user, password),
        tls=Tls(ca_file, client_cert, client_key),
        timeout=timeout,
        ae_title=ae_title,
        listen=listen,
    )


def connection_of_server(
    pacs_token: Annotated[
        str | None,
        _option(metavar="WHERE", help="Bearer token, kept in env:NAME or file:PATH."),
    ] = None,
    pacs_user: Annotated[
        str | None, _option(help="User of basic authentication, with --pacs-password.")
    ] = None,
    pacs_password: Annotated[
        str | None, _option(metavar="WHERE", help="Kept in env:NAME or file:PATH.")
    ] = None,
    ca_file: _CaFile = None,
    client_cert: _ClientCert = None,
    client_key: _ClientKey = None,
    timeout: _Timeout = 30.0,
    ae_title: _AeTitle = "VOLSEG",
) -> Connection:
    """Return how a server that has a token of its own reaches others.

    It has no port for C-MOVE, as each of its processes would need one.
    """
    from volseg.pacs import Connection, Tls

    return Connection(
        credentials=_credentials(pacs_token, pacs_user, pacs_password, prefix="pacs-"),
        tls=Tls(ca_file, client_cert, client_key),
        timeout=timeout,
        ae_title=ae_title,
    )


def _credentials(
    token: str | None, user: str | None, password: str | None, *, prefix: str = ""
) -> Credentials:
    from volseg.pacs import Credentials, read_secret

    return Credentials(
        token=None if token is None else read_secret(token, f"--{prefix}token"),
        user=user,
        password=None if password is None else read_secret(password, f"--{prefix}password"),
    )


def conditions(
    study: Annotated[str, typer.Option(metavar="UID", help="Study Instance UID.")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="Series Instance UID.")] = "",
    patient: Annotated[
        str, typer.Option(help="Patient ID; * and ? stand for any, here and below.")
    ] = "",
    name: Annotated[str, typer.Option(help="Patient's Name, such as 'Doe^Jane' or 'Doe*'.")] = "",
    date: Annotated[str, typer.Option(help="Study Date: 20260131, or 20260101-20260131.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    modality: Annotated[str, typer.Option(help="Such as CT.")] = "",
    description: Annotated[str, typer.Option(help="Series Description.")] = "",
) -> SeriesQuery:
    """Return the conditions on series."""
    from volseg.pacs import SeriesQuery

    return SeriesQuery(study, series, patient, name, date, accession, modality, description)


_Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Secret of the pseudonyms, made if it is not there; your own one by default.",
    ),
]
_PixelsChecked = Annotated[
    bool,
    typer.Option(
        "--pixels-checked",
        help="You vouch that no text is burnt into the pixels; else such files are refused.",
    ),
]


def anonymizer(key: _Key = None, pixels_checked: _PixelsChecked = False) -> Anonymizer:
    """Return an anonymizer; without a key file, with the key that this user always has.

    The same key every time makes the new UIDs of a study the same in every run, so that transfers
    go on after an interruption, and results refer to the images that were sent before.
    """
    import platformdirs

    from volseg.pacs import Anonymizer, read_key

    own = platformdirs.user_data_path("volseg", appauthor=False) / "pseudonyms.key"
    return Anonymizer(read_key(own if key is None else key), pixels_checked=pixels_checked)


def anonymizer_if_wanted(
    anonymize: Annotated[
        bool,
        typer.Option(
            "--anonymize",
            help="Take out who the patient is (PS3.15, basic profile; see docs/pacs.md).",
        ),
    ] = False,
    key: _Key = None,
    pixels_checked: _PixelsChecked = False,
) -> Anonymizer | None:
    """Return an anonymizer, or None if it was not asked for."""
    return anonymizer(key, pixels_checked) if anonymize else None
