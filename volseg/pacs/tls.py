"""Encrypted connections: whom to trust, and who this side is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import InputError, ServerError


@dataclass(frozen=True)
class Tls:
    """Certificates, all as PEM files. The other side's certificate and name are always verified.

    Attributes:
        ca_file: certificates to trust, instead of those of the system.
        certificate: of this side, for servers that ask for one.
        private_key: of that certificate, if it is not in the same file; it has no password.

    Raises:
        InputError: if there is a key without a certificate, or a file cannot be read or used.
    """

    ca_file: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used, before anything is sent."""
        if self.private_key is not None and self.certificate is None:
            raise InputError("--client-key belongs to a certificate: give --client-cert, too.")
        named = (("--ca-file", self.ca_file), ("--client-cert", self.certificate))
        for option, path in (*named, ("--client-key", self.private_key)):
            if path is not None:
                _require_readable(option, path)
        if self.is_given:
            self.client_context()

    @property
    def is_given(self) -> bool:
        """Whether any certificate is."""
        return self.ca_file is not None or self.certificate is not None

    def client_context(self) -> ssl.SSLContext:
        """Return how this side connects to a server."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError as error:
            raise InputError(f"--ca-file: {self.ca_file} holds no certificates (PEM).") from error
        self._identify(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """Return how this side lets a server connect to it: with a certificate that it trusts."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca_file)
        if self.ca_file is None:  # which Python loads for clients only
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
        self._identify(context)
        return context

    def _identify(self, context: ssl.SSLContext) -> None:
        if self.certificate is None:
            return
        try:
            # Without a password nothing is asked for on the terminal.
            context.load_cert_chain(self.certificate, self.private_key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"--client-cert: {self.certificate} and its key cannot be used "
                f"({getattr(error, 'reason', None) or error}): expected a certificate and its "
                "private key as PEM, without a password."
            ) from error


def not_encrypted(server: str, error: BaseException) -> ServerError:
    """Return why no encrypted connection to a server came about; trying again does not help.

    Args:
        server: its address, for the sentence.
        error: of the handshake.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServerError(
            f"{server}: its TLS certificate cannot be verified "
            f"({error.verify_message.rstrip('.')}); give the certificates to trust with --ca-file."
        )
    reason = str(getattr(error, "reason", None) or error).replace("_", " ").lower()
    return ServerError(
        f"{server} refuses the TLS connection ({reason}): it may ask for a certificate that it "
        "trusts (--client-cert and --client-key), or not be encrypted at all."
    )


def _require_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{option}: cannot read {path}: {error.strerror}.") from error
