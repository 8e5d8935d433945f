"""Sessions of MONAI Label: an image that is uploaded once, to be segmented several times."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from volseg.atomic import write_text
from volseg.errors import InputError
from volseg.server.content import suffix_of_content
from volseg.server.datastore import NotThereError
from volseg.server.inputs import place_image
from volseg.server.jobs import held_bytes
from volseg.server.own_folder import new_identifier, own_entries
from volseg.server.settings import Limits

_RECORD = "session.json"
_DICOM = ".dcm"


class Session(BaseModel):
    """A session as MONAI Label describes it; times are seconds since 1970."""

    name: str = "image"
    path: str = ""
    image: str
    meta: dict[str, str] = {}
    create_ts: int
    last_access_ts: int
    expiry: int

    @property
    def has_expired(self) -> bool:
        """Whether it was not used for too long."""
        return self.last_access_ts + self.expiry < time.time()


class Sessions:
    """All sessions; they lie on the disk and outlive the server's process.

    Args:
        folder: made if missing; what is damaged there is removed.
        limits: of the server.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in own_entries(folder):
            try:
                session = Session.model_validate_json((path / _RECORD).read_bytes())
            except (OSError, ValidationError):
                shutil.rmtree(path, ignore_errors=True)
                continue
            self._sessions[path.name], self._sizes[path.name] = session, held_bytes(path)

    @property
    def held_bytes(self) -> int:
        """Size of all sessions on the disk."""
        return sum(self._sizes.values())

    async def create(self, files: list[Path], received: Path, expiry: int) -> tuple[str, Session]:
        """Make a session of one image, or of the DICOM files of a series.

        Args:
            files: what was uploaded.
            received: the folder they lie in, which becomes that of the session.
            expiry: seconds after its last use, 0 for the longest.

        Raises:
            InputError: the files are no image.
        """
        longest, now = int(self._limits.keep_seconds), int(time.time())
        session = Session(
            image=await asyncio.to_thread(self._place, files, received),
            create_ts=now,
            last_access_ts=now,
            expiry=min(expiry, longest) if expiry > 0 else longest,
        )
        (received / _RECORD).write_text(session.model_dump_json(), encoding="utf-8")
        identifier = new_identifier()
        self._sizes[identifier] = await asyncio.to_thread(held_bytes, received)
        received.rename(self._folder / identifier)
        self._sessions[identifier] = session
        return identifier, session

    def find(self, identifier: str) -> Session:
        """Return a session.

        Raises:
            NotThereError: there is none, or it has expired.
        """
        found = self._sessions.get(identifier)
        if found is None or found.has_expired:
            raise NotThereError("there is no such session: it may have expired; upload again.")
        return found

    def use(self, identifier: str) -> Path:
        """Return the image of a session, which then lives on.

        Raises:
            NotThereError: there is none.
        """
        session = self.find(identifier)
        session.last_access_ts = int(time.time())
        write_text(self._folder / identifier / _RECORD, session.model_dump_json())
        return self._folder / identifier / session.image

    async def remove(self, identifier: str) -> Session:
        """Remove a session and its image.

        Raises:
            NotThereError: there is none.
        """
        session = self.find(identifier)
        await self._forget(identifier)
        return session

    async def tidy(self) -> None:
        """Remove what has expired."""
        for identifier in [name for name, one in self._sessions.items() if one.has_expired]:
            await self._forget(identifier)

    async def _forget(self, identifier: str) -> None:
        del self._sessions[identifier], self._sizes[identifier]
        folder = self._folder / identifier
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _place(self, files: list[Path], received: Path) -> str:
        """Put the files in their place and return the name of the image."""
        if not files:
            raise InputError("no file was sent: send an image, or the DICOM files of a series.")
        if len(files) == 1:
            return place_image(files[0], received, "image", self._limits).name
        image = received / "image"
        image.mkdir()
        for number, path in enumerate(files):
            if suffix_of_content(path, most_bytes=self._limits.unpacked_bytes) != _DICOM:
                raise InputError(f"file {number + 1} of {len(files)} is not DICOM.")
            path.rename(image / f"{number:06}{_DICOM}")
        return image.name
