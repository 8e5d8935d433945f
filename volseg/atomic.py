"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volseg.errors import OutputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    The temporary name keeps all suffixes of ``path``, because image libraries choose the format
    by them. If the block raises, or the process is killed, a file that was at ``path`` before is
    untouched; on an exception the temporary file is removed too.

    Args:
        path: Target; missing parent folders are created.

    Raises:
        OutputError: The operating system refused to write (disk full, no permission, ...).
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(_sentence(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sentence(path: Path, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    advice = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EACCES: "choose a folder you may write to",
        errno.EROFS: "choose a folder on a writable disk",
        errno.ENOTDIR: "part of the path is a file; choose another folder",
        errno.EEXIST: "part of the path is a file; choose another folder",
    }.get(error.errno or 0, "check the path and the disk")
    return f"{path} could not be written ({reason}); nothing was left behind: {advice}."
