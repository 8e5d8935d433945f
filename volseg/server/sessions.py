"""Sessions of MONAI Label: an image that is uploaded once, to be segmented several times."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.server.content import suffix_of_content
from volseg.server.datastore import NotThereError
from volseg.server.inputs import place_image
from volseg.server.jobs import held_bytes
from volseg.server.receiving import Form
from volseg.server.settings import Limits

_RECORD = "session.json"
_DICOM = ".dcm"


class Session(BaseModel):
    """A session as MONAI Label describes it; times are seconds since 1970."""

    name: str
    path: str = ""
    image: str
    meta: dict[str, str] = {}
    create_ts: int
    last_access_ts: int
    expiry: int


class Sessions:
    """All sessions; they lie on the disk and outlive the server's process.

    Args:
        folder: made if missing.
        limits: of the server.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, form: Form, received: Path, expiry: int) -> tuple[str, Session]:
        """Make a session of one image, or of the DICOM files of a series; takes the folder.

        Raises:
            InputError: the files are no image.
        """
        files = [path for _, path in form.files]
        if not files:
            raise InputError("no file was sent: send an image, or the DICOM files of a series.")
        if len(files) == 1:
            image = place_image(files[0], received, "image", self._limits)
        else:
            image = received / "image"
            image.mkdir()
            for number, path in enumerate(files):
                if suffix_of_content(path, most_bytes=self._limits.unpacked_bytes) != _DICOM:
                    raise InputError(f"file {number + 1} of {len(files)} is not DICOM.")
                path.rename(image / f"{number:06}{_DICOM}")
        longest = int(self._limits.keep_seconds)
        now = int(time.time())
        session = Session(
            name="image",
            image=image.name,
            create_ts=now,
            last_access_ts=now,
            expiry=min(expiry, longest) if expiry > 0 else longest,
        )
        identifier = secrets.token_hex(16)
        (received / _RECORD).write_text(session.model_dump_json(), encoding="utf-8")
        received.rename(self._folder / identifier)
        return identifier, session

    def find(self, identifier: str) -> Session:
        """Return a session.

        Raises:
            NotThereError: there is none, or it has expired.
        """
        found = self._all().get(identifier)
        if found is None:
            raise NotThereError("there is no such session: it may have expired; upload again.")
        return found

    def use(self, identifier: str) -> Path:
        """Return the image of a session, which then lives on.

        Raises:
            NotThereError: there is none.
        """
        session = self.find(identifier)
        session.last_access_ts = int(time.time())
        with replacing(self._folder / identifier / _RECORD) as temporary:
            temporary.write_text(session.model_dump_json(), encoding="utf-8")
        return self._folder / identifier / session.image

    def remove(self, identifier: str) -> Session:
        """Remove a session and its image.

        Raises:
            NotThereError: there is none.
        """
        session = self.find(identifier)
        shutil.rmtree(self._folder / identifier, ignore_errors=True)
        return session

    def tidy(self) -> None:
        """Remove what has expired, or is damaged."""
        kept = self._all()
        for folder in self._folder.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def held_bytes(self) -> int:
        """Return the size of all sessions on the disk."""
        return held_bytes(self._folder)

    def _all(self) -> dict[str, Session]:
        found = {}
        for folder in self._folder.iterdir():
            try:
                session = Session.model_validate_json((folder / _RECORD).read_bytes())
            except (OSError, ValidationError):
                continue
            if session.last_access_ts + session.expiry >= time.time():
                found[folder.name] = session
        return found
