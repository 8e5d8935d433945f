"""Writing files or a folder so that each either appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from volseg.errors import OutputError

_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of some file systems


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], *, only_writing: bool = True, flush: bool = True
) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of `path` when the block succeeds.

    The temporary file lies beside the file that is written and has the suffix of `path`, so that
    the rename never crosses a file system and libraries choose the right format, also where a link
    leads to a file without suffix. Missing folders are created. On any failure the temporary file
    is removed and an existing target is left as it was.

    Args:
        path: the file to write; a symbolic link is followed.
        only_writing: whether the block does nothing but write, so that any `OSError` in it says
            that the target cannot be written. A block that goes on for long says so itself, of its
            writes only, with `writing_to`.
        flush: whether the file is forced to the disk first. Without it a power cut may leave it
            empty: for small files by the thousand, whose loss is noticed and made good.

    Yields:
        The path to write to.

    Raises:
        OutputError: if the folder cannot be made, the target is not a plain file, writing fails
            (disk full, permission), or the block wrote nothing.
    """
    target = Path(os.path.realpath(path))
    with writing_to(target):
        _require_replaceable(target)
    temporary = target.with_name(f".volseg-{secrets.token_hex(8)}{_whole_suffix(Path(path))}")
    try:
        with writing_to(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with writing_to(target) if only_writing else contextlib.nullcontext():
            yield temporary
        with writing_to(target):
            if not temporary.is_file():
                raise OutputError(f"cannot write {target}: the writer gave no file.")
            if flush:
                _flush_to_disk(temporary)
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(
    path: str | os.PathLike[str],
    *,
    marked_by: str,
    only_writing: bool = True,
    unless_there: bool = False,
) -> Iterator[Path]:
    """Give the path of a temporary folder that takes the place of `path` when the block succeeds.

    On any failure the temporary folder is removed and an existing target is left as it was.

    Args:
        path: the folder to write; a symbolic link is followed.
        marked_by: name of the file in it that says what it is, such as `zarr.json`. A folder
            without it, unless it is empty, holds something else and is never replaced.
        only_writing: as in `replacing`.
        unless_there: whether a target that another process has made by then is left as it is, and
            the temporary folder removed: for what is the same whoever makes it.

    Yields:
        The path to write to; the block makes the folder.

    Raises:
        OutputError: if the target is something else, the folder cannot be made, or writing fails.
    """
    target = Path(os.path.realpath(path))
    with writing_to(target):
        is_empty = target.is_dir() and not any(target.iterdir())
        if target.exists() and not is_empty and not (target / marked_by).is_file():
            raise OutputError(
                f"cannot write {target}: something else is there, without the file {marked_by}; "
                "give another name or remove it."
            )
    token = secrets.token_hex(8)
    temporary = target.with_name(f".volseg-{token}{target.suffix}")
    old = target.with_name(f".volseg-{token}-old{target.suffix}")
    try:
        with writing_to(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with writing_to(target) if only_writing else contextlib.nullcontext():
            yield temporary
        with writing_to(target):
            if not (temporary / marked_by).is_file():
                raise OutputError(f"cannot write {target}: the writer gave no {marked_by}.")
            flush_folder(temporary)
            try:
                if target.exists() and not unless_there:
                    target.rename(old)  # a folder that is not empty cannot be renamed over
                temporary.rename(target)
            except BaseException as error:  # Ctrl-C between the two as well
                if old.exists() and not target.exists():
                    old.rename(target)
                is_there = unless_there and (target / marked_by).is_file()
                if not (is_there and isinstance(error, OSError)):
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def writing_to(target: Path) -> Iterator[None]:
    """Say in one sentence that the target cannot be written, where the block fails to.

    Raises:
        OutputError: in the place of any `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"cannot write {target}: {reason}; free space or choose another place, nothing was "
            "left there."
        ) from error


def flush_folder(folder: Path) -> None:
    """Force all files in a folder to the disk, so that a power cut cannot empty them."""
    for part in folder.rglob("*"):
        if part.is_file():
            _flush_to_disk(part)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could not be written, before there is anything to write; leave no trace.

    Raises:
        OutputError: if the target is not a plain file, or no file can be made in its folder, which
            may not be there yet.
    """
    target = Path(os.path.realpath(path))
    with writing_to(target):
        _require_replaceable(target)
        _make_a_file_in(target.parent)


def require_writable_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder in which no file could be made, before there is any; leave no trace.

    Raises:
        OutputError: if it could not be made, or it holds no new files.
    """
    target = Path(os.path.realpath(folder))
    with writing_to(target):
        _make_a_file_in(target)


def write_text(path: str | os.PathLike[str], text: str, *, flush: bool = True) -> None:
    """Write a text file, UTF-8, whole or not at all.

    Args:
        path: the file; a symbolic link is followed.
        text: what it is to hold.
        flush: as for `replacing`.

    Raises:
        OutputError: as for `replacing`.
    """
    with replacing(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_together(texts: Mapping[Path, str]) -> None:
    """Write text files that belong together, UTF-8, the last one last.

    All are written beside their targets before the first target is replaced: what fails before
    (disk full, permission, interruption) leaves every target as it was.

    Args:
        texts: the text of each file, in the order in which they are replaced.

    Raises:
        OutputError: as for `replacing`.
    """
    with contextlib.ExitStack() as files:
        for path in reversed(list(texts)):  # what is entered first is replaced last
            temporary = files.enter_context(replacing(path))
            temporary.write_text(texts[path], encoding="utf-8")


def reserve(stream: IO[bytes], size: int) -> None:
    """Bring an open file to its size in zeros, so that a full disk shows now and not hours later.

    Args:
        stream: open for writing, with nothing left in a buffer.
        size: bytes of it.

    Raises:
        OSError: if there is no room, or it cannot be written to.
    """
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    stream.truncate(size)


def _make_a_file_in(folder: Path) -> None:
    """Make a file that is gone at once in a folder, or in the one in which that would be made."""
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    with tempfile.TemporaryFile(dir=nearest):
        pass


def _require_replaceable(target: Path) -> None:
    # Renaming over a device such as /dev/null would replace the device itself.
    if target.exists() and not target.is_file():
        kind = "folder" if target.is_dir() else "device or pipe"
        raise OutputError(f"cannot write {target}: it is a {kind}; give the name of a file.")


def _whole_suffix(path: Path) -> str:
    suffixes = path.suffixes
    return "".join(suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix


def _flush_to_disk(path: Path) -> None:
    """Force a file to the disk, so that a power cut cannot leave an empty one."""
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes only what may be written to
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
