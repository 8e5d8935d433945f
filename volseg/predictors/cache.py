"""Converted networks on the disk: found by content, checked before use, whole or not there.

Processes share them without a lock: an entry comes and goes as a folder that is renamed.

A bundle may bring conversions along, and anybody may have made it. What a check found is therefore
never read from there: it is kept in the user's cache, by the digest of the very files it holds for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from volseg.atomic import write_text, writing_to
from volseg.errors import OutputError
from volseg.predictors.contract import first_line

_MANIFEST = "entry.json"
_KEPT = 16  # entries a folder; the least recently used go
_DRAFT = ".volseg-{}"
_ABANDONED_SECONDS = 24 * 3600  # no conversion takes so long: the process was killed
_CHECKS_KEPT = 256  # small files: a conversion has one a precision and processor

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A conversion on the disk.

    Attributes:
        folder: Where it lies; its name is the key.
        files: The converted network, complete and undamaged when the entry was returned.
        digest: Of the content of the files.
    """

    folder: Path
    files: tuple[Path, ...]
    digest: str

    def recorded(self, check: str) -> dict[str, Any]:
        """Return the result of a check that this user's cache knows of; empty if there is none."""
        path = self._record(check)
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            result = dict(json.loads(path.read_text(encoding="utf-8"))["result"])
            os.utime(path)
            return result
        return {}

    def record(self, check: str, result: dict[str, Any]) -> None:
        """Keep the result of a check in the user's cache, as far as it can be written."""
        path = self._record(check)
        try:
            _write_json(path, {"network": self.folder.name, "check": check, "result": result})
        except OutputError as error:
            _log.info("the check of a converted network is not kept: %s", first_line(error))
            return
        for old in _least_used(path.parent.glob("*.json"), _CHECKS_KEPT):
            with contextlib.suppress(OSError):
                old.unlink()

    def _record(self, check: str) -> Path:
        what = json.dumps([self.folder.name, self.digest, check])
        name = hashlib.sha256(what.encode()).hexdigest()[:32]
        return user_cache_folder().with_name("checks") / f"{name}.json"

    def discard(self) -> None:
        """Remove the conversion, as far as it can be removed."""
        gone = _beside(self.folder)
        with contextlib.suppress(OSError):
            self.folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


@dataclass(frozen=True)
class ConversionCache:
    """Folders of conversions: read from any, written to the first that can be written to.

    Where none can, conversions lie in a temporary folder until the entry's owner is gone.
    """

    folders: tuple[Path, ...]

    def find(self, key: str, names: Sequence[str]) -> Entry | None:
        """Return the entry of that key, with files of these names; a damaged one is removed."""
        for folder in self.folders:
            entry = _read(folder / key, names)
            if entry is not None:
                return entry
        return None

    def store(
        self, key: str, names: Sequence[str], write: Callable[[Sequence[Path]], None]
    ) -> Entry:
        """Return a new entry.

        Args:
            key: Its name.
            names: Names of its files.
            write: Writes them to the paths it is given.

        Raises:
            OutputError: They can be written nowhere.
        """
        for folder in self.folders:
            try:
                entry = _write(folder / key, names, write)
                _remove_old(folder)
            except OutputError as error:
                _log.info("a converted network is not kept in %s: %s", folder, first_line(error))
            else:
                return entry
        try:
            temporary = Path(tempfile.mkdtemp(prefix="volseg-"))
        except OSError as error:
            raise OutputError(
                f"no temporary folder can be made ({first_line(error)}): free some space, or set "
                "TMPDIR to a folder that has it."
            ) from error
        try:
            entry = _write(temporary / key, names, write)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        weakref.finalize(entry, shutil.rmtree, temporary, ignore_errors=True)
        return entry


def conversion_cache(folder: Path | None = None) -> ConversionCache:
    """Return the cache in ``folder`` and, where that cannot be written to, the user's.

    Args:
        folder: For a bundle, ``models/converted`` in it.
    """
    return ConversionCache((*([folder] if folder else []), user_cache_folder()))


def user_cache_folder(kind: str = "converted") -> Path:
    """Return ``$VOLSEG_CACHE`` or where this platform keeps caches, and there the folder."""
    chosen = os.environ.get("VOLSEG_CACHE")
    root = Path(chosen) if chosen else platformdirs.user_cache_path("volseg", appauthor=False)
    return root.expanduser() / kind


def _read(folder: Path, names: Sequence[str]) -> Entry | None:
    manifest = folder / _MANIFEST
    if not os.path.isfile(manifest):  # noqa: PTH113 - never raises, whoever owns the folder
        return None
    digests, damaged = {}, [_MANIFEST]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        recorded = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        if set(recorded) == set(names):  # never a path that somebody else wrote there
            digests = {name: _digest(folder / name) for name in names}
            damaged = [name for name in names if digests[name] != recorded[name]]
    entry = _entry(folder, digests)
    if damaged:
        _log.warning("%s is damaged (%s): it is made anew", folder, ", ".join(damaged))
        entry.discard()
        return None
    with contextlib.suppress(OSError):  # not ours to mark
        os.utime(manifest)
    return entry


def _write(folder: Path, names: Sequence[str], write: Callable[[Sequence[Path]], None]) -> Entry:
    """Write an entry, or return the one that another process wrote meanwhile."""
    draft = _beside(folder)
    files = [draft / name for name in names]
    try:
        with writing_to(folder):
            draft.mkdir(parents=True)
        try:
            write(files)
        except Exception as error:  # libraries raise whatever they like where the disk is full
            raise OutputError(
                f"cannot write a converted network in {folder}: {first_line(error)}; free space or "
                "choose another place."
            ) from error
        with writing_to(folder):
            digests = {path.name: _digest(path) for path in files}
            _write_json(draft / _MANIFEST, {"files": digests})
            try:
                draft.rename(folder)
            except OSError:  # something is there: of another process, or what is left of one
                if (found := _read(folder, names)) is not None:
                    return found
                _entry(folder, {}).discard()
                draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _entry(folder, digests)


def _beside(folder: Path) -> Path:
    """Return a name that nobody else uses or looks for."""
    return folder.with_name(_DRAFT.format(secrets.token_hex(8)))


def _entry(folder: Path, digests: dict[str, str]) -> Entry:
    content = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    return Entry(folder, tuple(folder / name for name in digests), content)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_old(folder: Path) -> None:
    for manifest in _least_used(folder.glob(f"*/{_MANIFEST}"), _KEPT):
        _entry(manifest.parent, {}).discard()
    for draft in folder.glob(_DRAFT.format("*")):
        with contextlib.suppress(OSError):  # another process removes it now
            if draft.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def _least_used(paths: Iterable[Path], kept: int) -> list[Path]:
    """Return all but the most recently used; none if another process removes some of them now."""
    with contextlib.suppress(OSError):
        used = sorted((path.stat().st_mtime, path) for path in paths)
        return [path for _, path in used[:-kept]]
    return []
