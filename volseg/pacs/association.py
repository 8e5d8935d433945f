"""One DICOM association (PS3.8), opened and closed whatever happens, with pynetdicom."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volseg.errors import MissingPackageError, ServerError
from volseg.pacs.address import Address
from volseg.pacs.tls import Tls, not_encrypted

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom import AE
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

_PORT, _TLS_PORT = 104, 2762  # PS3.8, 9.1.1
_PDU_SIZE = 2**17  # larger than the 16 KiB that are usual: fewer round trips
_PROBE_SECONDS = 2.0
_REFUSAL_SECONDS = 0.5


@dataclass(frozen=True)
class Peer:
    """A DIMSE server, and what this side is called there.

    Attributes:
        address: of the server.
        ae_title: of this side.
        timeout: seconds that the server may be silent.
        tls: certificates; None for a connection that is not encrypted.
    """

    address: Address
    ae_title: str
    timeout: float
    tls: Tls | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        usual = _PORT if self.tls is None else _TLS_PORT
        return self.address.host, self.address.port or usual

    @property
    def name(self) -> str:
        """The address, for sentences."""
        return str(self.address)

    def application(self) -> AE:
        """Return the application entity that this side is.

        Raises:
            MissingPackageError: if pynetdicom is not installed.
        """
        try:
            from pynetdicom import AE  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise MissingPackageError("DIMSE", "pynetdicom", "pacs") from error
        entity = AE(self.ae_title)
        entity.maximum_pdu_size = _PDU_SIZE
        entity.acse_timeout = entity.dimse_timeout = self.timeout
        entity.network_timeout = entity.connection_timeout = self.timeout
        return entity

    @contextlib.contextmanager
    def association(
        self,
        contexts: Sequence[PresentationContext],
        *,
        roles: Sequence[Any] = (),
        on_store: Callable[[Any], int] | None = None,
    ) -> Iterator[Association]:
        """Open an association; released at the end, aborted where something fails.

        Args:
            contexts: what is proposed.
            roles: role selections, for C-GET.
            on_store: takes the instances that come by C-GET, returns a status.

        Raises:
            ServerError: if it cannot be opened, or breaks.
        """
        entity = self.application()
        from pynetdicom import evt  # noqa: PLC0415 - an optional package

        tls = self.tls
        association = entity.associate(
            *self.place,
            contexts=list(contexts),
            ae_title=self.address.ae_title,
            max_pdu=_PDU_SIZE,
            ext_neg=list(roles),
            tls_args=None if tls is None else (tls.client_context(), self.address.host),
            evt_handlers=[(evt.EVT_C_STORE, on_store)] if on_store is not None else [],
        )
        if not association.is_established:
            raise self._not_established(association)
        try:
            yield association
        except BaseException as error:
            association.abort()
            if isinstance(error, RuntimeError | ValueError):  # of pynetdicom, on a dead association
                raise self.broken() from error
            raise
        association.release()

    def broken(self) -> ServerError:
        """Return the error for a server that went away, or said nothing for too long."""
        return ServerError(
            f"{self.name} broke off the connection, or was silent for more than "
            f"{self.timeout:g} s.",
            passing=True,
        )

    def require_status(self, status: Dataset, what: str) -> int:
        """Return the status of a response that is not a failure (PS3.7, C).

        Raises:
            ServerError: if it is one, or if there was no response.
        """
        if "Status" not in status:
            raise self.broken()
        code = int(status.Status)
        if code in (0x0000, 0xFF00, 0xFF01) or code >> 12 == 0xB:
            return code
        raise ServerError(
            f"{self.name} refused the {what}: {status_words(status)}.",
            passing=code >> 8 == 0xA7,  # out of resources
        )

    def _not_established(self, association: Association) -> ServerError:
        if association.is_rejected:
            answer = association.acceptor.primitive
            return ServerError(
                f"{self.name} rejected the association: {answer.reason_str.rstrip('.')}. Its "
                f"configuration must know this side, {self.ae_title}, and itself be called "
                f"{self.address.ae_title}.",
                passing=answer.result == 2,  # rejected (transient): PS3.8, 9.3.4
            )
        if association.rejected_contexts:
            return ServerError(f"{self.name} offers none of the services asked for.")
        if association.is_aborted:
            return self._not_reached()
        return self.broken()

    def _not_reached(self) -> ServerError:
        """Return why no association came about, which pynetdicom does not say."""
        host, port = self.place
        try:
            with socket.create_connection((host, port), min(self.timeout, _PROBE_SECONDS)) as plain:
                if self.tls is not None:
                    _shake_hands(plain, self.tls, host)
        except ssl.SSLError as error:
            return not_encrypted(self.name, error)
        except OSError as error:
            why = f"{error.strerror or error or type(error).__name__} (port {port})"
            return ServerError(f"{self.name} cannot be reached: {why}.", passing=True)
        return ServerError(
            f"{self.name} cannot be reached: what listens on port {port} does not answer as a "
            "DICOM server.",
            passing=True,
        )


def _shake_hands(plain: socket.socket, tls: Tls, host: str) -> None:
    encrypted = tls.client_context().wrap_socket(plain, server_hostname=host)
    with encrypted, contextlib.suppress(TimeoutError):
        # A server that asks for a certificate says so only now (TLS 1.3).
        encrypted.settimeout(_REFUSAL_SECONDS)
        encrypted.recv(1)


def status_words(status: Dataset) -> str:
    """Return a status in words: its code, and the comment of the server if there is one."""
    comment = str(status.get("ErrorComment") or "").strip().rstrip(".")
    return f"status {int(status.Status):#06x}" + (f", {comment!r}" if comment else "")
