"""New names for old ones: the same for the same key, and not to be turned back without it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

from volseg.atomic import writing_to
from volseg.errors import InputError

_KEY_BYTES = 32


class Pseudonyms:
    """Keyed hashes (HMAC-SHA256) of identifiers.

    Args:
        key: secret; whoever has it can tell whether a pseudonym belongs to a name they know.

    Raises:
        InputError: if it is too short to be one.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _KEY_BYTES:
            raise InputError(
                f"a key of {len(key)} bytes for pseudonyms: expected {_KEY_BYTES} or more."
            )
        self._key = key

    def uid(self, old: str) -> str:
        """Return the UID that takes the place of another (PS3.5, B.2: derived from a UUID).

        Those that the standard itself gives out stay: SOP classes, well-known instances.
        """
        from pydicom.uid import UID_dictionary  # noqa: PLC0415 - an optional package

        if not old or old in UID_dictionary:
            return old
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', old)[:16], version=5).int}"

    def patient(self, old: str) -> str:
        """Return the Patient ID that takes the place of another."""
        return f"ANON-{self._digest('patient', old).hex()[:16].upper()}"

    def case(self, old: str) -> str:
        """Return the name that takes the place of that of a case."""
        return f"CASE-{self._digest('case', old).hex()[:16].upper()}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{kind}:{text}".encode(), hashlib.sha256)


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file, which is made, for its owner only, if it is not there.

    Raises:
        InputError: if the file cannot be read, or holds something else.
        OutputError: if it cannot be made.
    """
    place = Path(path)
    if not place.exists():
        _make_key(place)
    try:
        key = bytes.fromhex(place.read_text(encoding="ascii"))
    except OSError as error:
        raise InputError(f"cannot read the key {place}: {error.strerror}.") from error
    except ValueError:
        key = b""
    if len(key) < _KEY_BYTES:
        raise InputError(
            f"{place} does not hold a key for pseudonyms: expected {2 * _KEY_BYTES} hexadecimal "
            "digits; name a file that is not there to have one made."
        )
    return key


def _make_key(place: Path) -> None:
    with writing_to(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        # Another process may make it at the same moment: the first one counts.
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_KEY_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
