"""Secrets that a server asks for: read from where the user keeps them, shown nowhere."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from volseg.errors import InputError

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Credentials:
    """A bearer token, or a user name with a password (basic authentication).

    Raises:
        InputError: if both are given, or a name without a password.
    """

    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse combinations that mean nothing."""
        if (self.user is None) != (self.password is None):
            raise InputError("basic authentication needs both a user and a password.")
        if self.token is not None and self.user is not None:
            raise InputError("both a token and a user name were given: a server takes one of them.")

    @property
    def is_given(self) -> bool:
        """Whether any secret is."""
        return self.token is not None or self.user is not None


def read_secret(source: str, what: str) -> str:
    """Return the secret that lies in `env:NAME` or `file:PATH`.

    Args:
        source: where it is, never the secret itself, which everybody on the machine would see.
        what: the option that named the source, for errors.

    Raises:
        InputError: if it is not there, empty, or not a line of text; nothing of it is repeated.
    """
    kind, _, place = source.partition(":")
    if kind == "env" and _ENVIRONMENT_NAME.fullmatch(place):
        secret, where = os.environ.get(place), f"the environment variable {place}"
    elif kind == "file" and place:
        where = f"the file {place}"
        try:
            secret = Path(place).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{what}: cannot read {where}: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise InputError(f"{what}: {where} does not hold text.") from None
    else:
        raise InputError(
            f"{what} takes where the secret is kept, env:NAME or file:PATH, never the secret "
            "itself: what stands on a command line is seen by others."
        )
    secret = (secret or "").strip()
    if not (secret and secret.isprintable()):
        raise InputError(f"{what}: {where} is {'not one line' if secret else 'not set or empty'}.")
    return secret
