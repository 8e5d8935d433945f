"""Addresses of servers: what the user writes in the place of a path.

    dicomweb://host[:port]/root          DICOMweb over HTTP
    dicomwebs://host[:port]/root         DICOMweb over HTTPS
    dimse://AE_TITLE@host[:port]         DIMSE, port 104 if not given
    dimses://AE_TITLE@host[:port]        DIMSE over TLS, port 2762 if not given

Conditions on series may follow, as in `dicomwebs://pacs.example/dicom-web?patient=42&modality=CT`;
their names are the fields of `SeriesQuery`. Secrets have no place in an address.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from volseg.errors import InputError, UnknownNameError
from volseg.pacs.query import SeriesQuery

SCHEMES = ("dicomweb", "dicomwebs", "dimse", "dimses")
_EXPECTED = (
    "expected dicomweb://host/root, dimse://AE_TITLE@host:port, or dicomwebs:// or dimses:// for "
    "an encrypted connection, conditions such as ?series=UID after it"
)
_LONGEST_AE_TITLE = 16


@dataclass(frozen=True)
class Address:
    """Where a server is, and which series are meant there.

    Attributes:
        scheme: one of `SCHEMES`.
        host: name or IP address.
        port: None for what is usual.
        root: path of DICOMweb, with a leading slash, or empty.
        ae_title: what a DIMSE server is called, empty for DICOMweb.
        query: conditions on series.
    """

    scheme: str
    host: str
    port: int | None = None
    root: str = ""
    ae_title: str = ""
    query: SeriesQuery = field(default_factory=SeriesQuery)

    @property
    def is_dimse(self) -> bool:
        """Whether it is a DIMSE server, known by its AE title."""
        return self.scheme.startswith("dimse")

    @property
    def is_encrypted(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme.endswith("s")

    @property
    def url(self) -> str:
        """The root of DICOMweb as HTTP clients want it."""
        return f"http{'s' if self.is_encrypted else ''}://{self._place}{self.root}"

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the server, without the conditions."""
        user = f"{self.ae_title}@" if self.ae_title else ""
        return f"{self.scheme}://{user}{self._place}{self.root}"


def is_address(text: str) -> bool:
    """Return whether a text is meant as the address of a server rather than as a path."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def parse_address(text: str) -> Address:
    """Return the address a text stands for.

    Raises:
        InputError: if it is not one, with what was expected; a password in it is not repeated.
    """
    # Until it is known that it holds no secret, the text itself is in no message.
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its words may hold a part of a password
        raise InputError(
            f"the host or the port in the address of a server cannot be read: {_EXPECTED}."
        ) from None
    scheme, host = parts.scheme.lower(), parts.hostname
    is_dimse = scheme in ("dimse", "dimses")
    # A `/`, `?` or `#` in a password ends the host before the "@" that tells it from a port.
    after_host = parts.path + parts.query.partition("=")[0] + parts.fragment
    is_cut_off = ":" in parts.netloc and "@" not in parts.netloc and "@" in after_host
    has_user = parts.username is not None and not is_dimse
    if parts.password is not None or has_user or is_cut_off:
        raise InputError(
            "the address of a server holds a user name or password, where others see it: leave it "
            "out, and name where they are kept with --user and --password env:NAME or file:PATH."
        )
    if scheme not in SCHEMES or not host or parts.fragment:
        raise InputError(f"the address {text!r} cannot be read: {_EXPECTED}.")
    title, root = unquote(parts.username or ""), parts.path.rstrip("/")
    if is_dimse:
        if not title or root:
            raise InputError(f"the address {text!r} cannot be read: {_EXPECTED}.")
        require_ae_title(title)
    return Address(scheme, host, port, root, title, _query(parts.query))


def require_ae_title(title: str) -> None:
    """Refuse what no DIMSE server could be called (PS3.5, 6.2: AE).

    Raises:
        InputError: if the title is empty, too long or has characters other than printable ASCII.
    """
    printable = title.isascii() and title.isprintable() and "\\" not in title
    if not (title.strip() and printable and len(title) <= _LONGEST_AE_TITLE):
        raise InputError(
            f"{title!r} cannot be an AE title: expected 1 to 16 ASCII characters, such as ORTHANC."
        )


def _query(text: str) -> SeriesQuery:
    known = [condition.name for condition in dataclasses.fields(SeriesQuery)]
    conditions: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in known:
            raise UnknownNameError("condition in the address of a server", name, known)
        if name in conditions:
            raise InputError(f"the address of a server has {name} twice: give it once.")
        conditions[name] = value
    return SeriesQuery(**conditions)
