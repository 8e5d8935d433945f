"""From an address to a server that can be asked."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from volseg.errors import InputError
from volseg.pacs.address import Address, require_ae_title
from volseg.pacs.credentials import Credentials
from volseg.pacs.server import Server
from volseg.pacs.tls import Tls

logger = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Connection:
    """How to reach servers.

    Attributes:
        credentials: for DICOMweb.
        tls: certificates for `dicomwebs` and `dimses`.
        timeout: seconds that a server may be silent.
        ae_title: what this side is called in DIMSE.
        listen: `[host:]port` where this side takes what it fetches by C-MOVE; C-GET if None, which
            needs neither an open port nor an entry in the server's configuration.
    """

    credentials: Credentials = field(default_factory=Credentials)
    tls: Tls = field(default_factory=Tls)
    timeout: float = 30.0
    ae_title: str = "VOLSEG"
    listen: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: if the timeout, the AE title or the port is not one.
        """
        if not self.timeout > 0:
            raise InputError(f"a timeout of {self.timeout:g} s: expected more than 0.")
        require_ae_title(self.ae_title)
        if self.listen is not None:
            self.listening_at()

    def listening_at(self) -> tuple[str, int]:
        """Return host (empty for all interfaces) and port of `listen`."""
        host, _, port = (self.listen or "").rpartition(":")
        if not (port.isdecimal() and int(port) < 2**16):
            raise InputError(
                f"{self.listen!r} is not where one can listen: expected PORT or HOST:PORT, such as "
                "11112."
            )
        return host.strip("[]"), int(port)


def open_server(address: Address, connection: Connection | None = None) -> Server:
    """Return the server at an address; nothing is sent yet.

    Raises:
        MissingPackageError: if the package for its protocol is not installed.
        InputError: if the connection does not go with the protocol.
    """
    connection = connection or Connection()
    if connection.tls.is_given and not address.is_encrypted:
        raise InputError(
            f"{address}: certificates are for dicomwebs:// and dimses://, which are encrypted."
        )
    if address.is_dimse:
        return _open_dimse(address, connection)
    from volseg.pacs.dicomweb import DicomWeb  # noqa: PLC0415 - the client, only where it is used

    can_be_read = not address.is_encrypted and address.host not in _LOOPBACK
    if connection.credentials.is_given and can_be_read:
        logger.warning(
            "%s is not encrypted: the secret for it can be read on the way; dicomwebs:// is.",
            address,
        )
    return DicomWeb(
        address,
        credentials=connection.credentials,
        tls=connection.tls,
        timeout=connection.timeout,
    )


def _open_dimse(address: Address, connection: Connection) -> Server:
    from volseg.pacs.association import Peer  # noqa: PLC0415 - pynetdicom, only where it is used
    from volseg.pacs.dimse import Dimse  # noqa: PLC0415

    if connection.credentials.is_given:
        raise InputError(
            f"{address}: DIMSE knows AE titles and certificates, no token and no password; take "
            "the server's DICOMweb address."
        )
    listen = None if connection.listen is None else connection.listening_at()
    if listen is not None and address.is_encrypted and connection.tls.certificate is None:
        raise InputError(
            f"{address}: what listens with --listen is encrypted, too, and needs a certificate "
            "that the server trusts: give --client-cert, or leave --listen out."
        )
    peer = Peer(
        address,
        connection.ae_title,
        connection.timeout,
        tls=connection.tls if address.is_encrypted else None,
    )
    return Dimse(peer, listen=listen)
