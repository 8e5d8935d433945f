"""Copies of bundles, to be changed."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from volseg.bundle.folder import Bundle


def copy_bundle(bundle: Bundle, folder: Path, *, without: Iterable[str]) -> None:
    """Copy a bundle, also over a copy that was not made to its end.

    The owner may write what is copied, also of a bundle that many share and nobody may change.

    Args:
        bundle: The bundle.
        folder: Of the copy; where it lies in the bundle it is not copied into itself.
        without: Files and folders in the bundle that are left out.

    Raises:
        OSError: It cannot be read or written (`shutil.Error`: some files of it).
    """
    left_out = {folder.resolve(), *(bundle.folder / name for name in without)}
    if folder.exists():
        _let_owner_write(folder)
    shutil.copytree(
        bundle.folder,
        folder,
        ignore=lambda place, names: {name for name in names if Path(place, name) in left_out},
        dirs_exist_ok=True,
    )
    _let_owner_write(folder)


def _let_owner_write(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        if not mode & stat.S_IWUSR:
            path.chmod(mode | stat.S_IWUSR)
