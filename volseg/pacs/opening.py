"""From an address to a server that can be asked."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from volseg.errors import InputError
from volseg.pacs.address import Address, require_ae_title
from volseg.pacs.credentials import Credentials
from volseg.pacs.server import Server

logger = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Connection:
    """How to reach servers.

    Attributes:
        credentials: for DICOMweb.
        ca_file: certificates to trust for `dicomwebs`, instead of the usual ones.
        timeout: seconds that a server may be silent.
        ae_title: what this side is called in DIMSE.
        listen: `[host:]port` where this side takes what it fetches by C-MOVE; C-GET if None, which
            needs neither an open port nor an entry in the server's configuration.
    """

    credentials: Credentials = field(default_factory=Credentials)
    ca_file: str | None = None
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
    if address.scheme == "dimse":
        from volseg.pacs.dimse import Dimse  # noqa: PLC0415 - pynetdicom, only where it is used

        if connection.credentials or connection.ca_file:
            raise InputError(
                f"{address}: DIMSE knows AE titles only, no token, password or certificate; take "
                "the server's DICOMweb address."
            )
        listen = None if connection.listen is None else connection.listening_at()
        return Dimse(
            address, ae_title=connection.ae_title, listen=listen, timeout=connection.timeout
        )
    from volseg.pacs.dicomweb import DicomWeb  # noqa: PLC0415 - the client, only where it is used

    if address.scheme == "dicomweb":
        if connection.ca_file:
            raise InputError(f"{address}: certificates are for dicomwebs://, which is encrypted.")
        if connection.credentials and address.host not in _LOOPBACK:
            logger.warning(
                "%s is not encrypted: the secret for it can be read on the way; dicomwebs:// is.",
                address,
            )
    return DicomWeb(
        address,
        credentials=connection.credentials,
        ca_file=connection.ca_file,
        timeout=connection.timeout,
    )
