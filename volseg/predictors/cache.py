"""Converted networks on the disk: found by content, checked before use, written whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from volseg.atomic import replacing
from volseg.errors import OutputError
from volseg.predictors.contract import first_line

_MANIFEST = "entry.json"
_KEPT = 16  # entries a folder; the least recently used go

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A conversion on the disk.

    Attributes:
        folder: Where it lies.
        files: The converted network, complete and undamaged when the entry was returned.
        checks: What is known about it, by what that holds for.
    """

    folder: Path
    files: tuple[Path, ...]
    checks: dict[str, Any]

    def record(self, name: str, result: dict[str, Any]) -> None:
        """Keep the result of a check with the conversion, as far as it can be written."""
        self.checks[name] = result
        manifest = json.loads((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        try:
            _write_json(self.folder / _MANIFEST, {**manifest, "checks": self.checks})
        except OutputError as error:
            _log.info("the check of a converted network is not kept: %s", error)

    def discard(self) -> None:
        """Remove the conversion, as far as it can be removed."""
        with contextlib.suppress(OSError):
            (self.folder / _MANIFEST).unlink(missing_ok=True)  # from here on it is no entry
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class ConversionCache:
    """Folders of conversions: read from any, written to the first that can be written to.

    Where none can, conversions lie in a temporary folder until the entry's owner is gone.
    """

    folders: tuple[Path, ...]

    def find(self, key: str) -> Entry | None:
        """Return the entry of that key; a damaged one is removed."""
        for folder in self.folders:
            entry = _read(folder / key)
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


def user_cache_folder() -> Path:
    """Return ``$VOLSEG_CACHE`` or where this platform keeps caches, and there ``converted``."""
    chosen = os.environ.get("VOLSEG_CACHE")
    root = Path(chosen) if chosen else platformdirs.user_cache_path("volseg", appauthor=False)
    return root.expanduser() / "converted"


def _read(folder: Path) -> Entry | None:
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return None
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        files = {folder / str(name): str(digest) for name, digest in content["files"].items()}
        checks = dict(content["checks"])
        damaged = [path.name for path, digest in files.items() if _digest(path) != digest]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        files, checks, damaged = {}, {}, [_MANIFEST]
    entry = Entry(folder, tuple(files), checks)
    if damaged:
        _log.warning("%s is damaged (%s): it is made anew", folder, ", ".join(damaged))
        entry.discard()
        return None
    with contextlib.suppress(OSError):  # not ours to mark
        os.utime(manifest)
    return entry


def _write(folder: Path, names: Sequence[str], write: Callable[[Sequence[Path]], None]) -> Entry:
    """Write an entry: its files, each whole, and last the manifest that makes them one."""
    files = tuple(folder / name for name in names)
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(replacing(path)) for path in files]
        try:
            write(temporary)
        except Exception as error:  # libraries raise whatever they like where the disk is full
            raise OutputError(
                f"cannot write a converted network in {folder}: {first_line(error)}; free space or "
                "choose another place."
            ) from error
        digests = {
            path.name: _digest(written) for path, written in zip(files, temporary, strict=True)
        }
    _write_json(folder / _MANIFEST, {"files": digests, "checks": {}})
    return Entry(folder, files, {})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_old(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may remove them at the same time
        used = sorted((path.stat().st_mtime, path) for path in folder.glob(f"*/{_MANIFEST}"))
        for _, manifest in used[:-_KEPT]:
            Entry(manifest.parent, (), {}).discard()
