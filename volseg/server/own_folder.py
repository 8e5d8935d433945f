"""The folder of a server: marked as one, so that nothing of anybody else's is ever removed."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from volseg.atomic import write_text, writing_to
from volseg.errors import InputError

_MARK = "volseg-server.json"
_FORMAT = 1
# What earlier versions, which left no mark, had made once they had started.
_UNMARKED = {"jobs", "server.lock", "sessions", "trained", "training"}
_MADE_FIRST = Path("jobs") / "incoming"
# What may be there before: images laid ready, and what a file system makes in its root.
_LAID_READY = {"datastore", "lost+found"}


def claim_folder(folder: Path) -> None:
    """Make and mark the folder of a server; one that is marked already is left as it is.

    Raises:
        InputError: something else lies there.
        OutputError: it cannot be written.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / _MARK).is_file():
            return
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    strange = names - _LAID_READY
    if (folder / _MADE_FIRST).is_dir():
        strange -= _UNMARKED
    if strange:
        raise InputError(
            f"{folder} is not the folder of a server: it holds {min(strange)} and no {_MARK}; give "
            "an empty or a new one with --folder, as a server removes what it finds in its own."
        )
    write_text(folder / _MARK, json.dumps({"format": _FORMAT}) + "\n")


def new_identifier() -> str:
    """Return a name for something of the server's own, which cannot be guessed."""
    return secrets.token_hex(16)


def own_entries(folder: Path) -> list[Path]:
    """Return the folders that bear a name of `new_identifier`; whatever else lies there is left."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if re.fullmatch("[0-9a-f]{32}", path.name) and path.is_dir() and not path.is_symlink()
    ]
