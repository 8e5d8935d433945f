"""Cases as they are after what is the same for every draw, kept on the disk and mapped to memory.

A folder holds what one preparation makes of cases: an array file for each volume, so that a patch
is read from where it lies and nothing else is, by any number of processes, folds and runs. Once a
run, as it begins, the files are read through, as a damaged one is told by its check sum alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from volseg.atomic import replacing_folder
from volseg.data.fingerprint import file_stamps
from volseg.errors import (
    GeometryError,
    InputError,
    OutputError,
    first_cause,
    reason_of,
)
from volseg.predictors import user_cache_folder, value_fingerprint
from volseg.transforms.patch_position import rare_voxels_entry

_log = logging.getLogger(__name__)

_MANIFEST = "case.json"
# Trying some voxels finds one of a class that fills more than this; of others it is kept where
# they are, as `volseg.transforms.patch_position` looks for them.
_RARE = 1 / 128

Case = dict[Hashable, Any]
Step = Callable[[Any], Any]


class PreparedCases:
    """The cases that one preparation has made, each prepared once and then read.

    A case is known by its entries and by path, size and time of its files, the preparation by its
    options, the code of its classes and the versions of volseg and MONAI: if one of them is
    another, the case is prepared anew. So is a case whose files here are damaged.

    Args:
        steps: The preparation, one after another: from the paths of a case to its volumes.
        folder: Where the cases lie; ``prepared`` in the user's cache folder (``$VOLSEG_CACHE``) by
            default, and what cannot be written to that in a temporary folder.
    """

    def __init__(self, steps: Sequence[Step], folder: str | Path | None = None) -> None:
        self.prepare = Compose(steps)
        what = [*steps, version("volseg"), monai.__version__]
        name = value_fingerprint(what)[:16]
        # What nothing can be said of is never the same again: no later run would find it.
        is_known = name == value_fingerprint(what)[:16]
        root = user_cache_folder("prepared") if folder is None else Path(folder)
        self.folder = root / name if is_known else self._temporary_folder()
        self._may_go_elsewhere = is_known and folder is None
        self._folders = [self.folder]  # looked in one after another; the last is written to
        self._opened: dict[Path, Case] = {}

    def make(self, case: Mapping[Hashable, Any], *, check: bool = True) -> tuple[Path, int]:
        """Prepare a case unless it is there; return its folder and its bytes on the disk.

        Args:
            case: The case.
            check: Whether the files of one that is there are read through, to find damage.

        Raises:
            InputError: The case cannot be prepared; it is named.
            OutputError: Its files cannot be written, or are damaged and cannot be replaced.
        """
        key = _key(case)
        for folder in self._folders:
            place = folder / key
            if (manifest := _found(place, check=check)) is not None:
                break
        else:
            place = self._write(case, key)
            manifest = _manifest(place) or {}
            if not _is_intact(place, manifest):  # it is the one before, which could not be removed
                raise OutputError(
                    f"the prepared case {place} is damaged and cannot be replaced: remove it, or "
                    "give another folder (prepared)."
                )
        return place, sum(int(one["bytes"]) for one in manifest.values())

    def read(self, case: Mapping[Hashable, Any], place: Path | None = None) -> Case:
        """Return a prepared case: its entries, volumes as tensors mapped to memory.

        Beside a label map of one channel, under its name and ``_voxels``, is where its rare classes
        are: a dictionary of class to sorted flat indices.

        Args:
            case: The case.
            place: Its folder, as `make` gave it; the case's own files are not looked at again.

        Raises:
            InputError: The case cannot be prepared.
            OutputError: It has to be prepared anew and cannot be written.
        """
        if place is None:
            place, _ = self.make(case)
        if place not in self._opened:
            found = _opened(place)
            if found is None:  # any longer
                anew, _ = self.make(case)
                found = _opened(anew)
                if found is None:
                    raise OutputError(
                        f"what was written to {anew} is not what can be read from it: look at the "
                        "disk, or give another folder (prepared)."
                    )
            self._opened[place] = found
        return {**case, **self._opened[place]}

    def _write(self, case: Mapping[Hashable, Any], key: str) -> Path:
        try:
            made = self.prepare(dict(case))
        except Exception as error:
            kind = GeometryError if isinstance(first_cause(error), GeometryError) else InputError
            raise kind(
                f"the case {case.get('case', key)} cannot be prepared: {reason_of(error)}"
            ) from error
        try:
            _write(made, self._folders[-1] / key)
        except OutputError as error:
            if not self._may_go_elsewhere:
                raise
            self._may_go_elsewhere = False
            _log.warning("a temporary folder is used: %s", error)
            self._folders.append(self._temporary_folder())
            _write(made, self._folders[-1] / key)
        return self._folders[-1] / key

    def _temporary_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="volseg-prepared-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


def _write(made: Mapping[Hashable, Any], place: Path) -> None:
    """Write the volumes of a case to a folder, whole or not at all, or leave another process's."""
    with replacing_folder(place, marked_by=_MANIFEST, unless_there=True) as temporary:
        temporary.mkdir()
        manifest: dict[str, Any] = {}
        for name, value in made.items():
            if not isinstance(value, torch.Tensor):
                continue
            array = np.ascontiguousarray(value.detach().cpu().numpy())
            entry = _save(temporary / f"{name}.npy", array)
            if isinstance(value, MetaTensor):
                entry["affine"] = value.affine.tolist()
            manifest[str(name)] = entry
            if len(array) == 1 and name == "label":
                for label, voxels in _rare_voxels(array[0]).items():
                    file = f"{name}_voxels_{label}"
                    manifest[file] = _save(temporary / f"{file}.npy", voxels)
                    manifest[file]["class"] = label
        (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _save(path: Path, array: npt.NDArray[Any]) -> dict[str, Any]:
    np.save(path, array, allow_pickle=False)
    return {"bytes": path.stat().st_size, "crc32": _check_sum(array)}


def _rare_voxels(labels: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """Return the flat indices of the voxels of each class that has few."""
    values, counts = np.unique(labels, return_counts=True)
    return {
        int(value): np.flatnonzero(labels == value)
        for value, count in zip(values, counts, strict=True)
        if count < _RARE * labels.size
    }


def _found(place: Path, *, check: bool) -> dict[str, dict[str, Any]] | None:
    """Return what a folder says that it holds; one that is damaged is removed.

    Args:
        place: The folder.
        check: Whether its files are read through.
    """
    was_there = (place / _MANIFEST).is_file()
    manifest = _manifest(place)
    if manifest is not None and (not check or _is_intact(place, manifest)):
        return manifest
    if was_there:
        _log.warning("%s is damaged: the case is prepared again", place)
        shutil.rmtree(place, ignore_errors=True)
    return None


def _is_intact(place: Path, manifest: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the files of a folder hold what was written."""
    for name, entry in manifest.items():
        try:
            array = np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return False
        if _check_sum(array) != entry["crc32"]:
            return False
    return True


def _check_sum(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(array.data if array.size else b"")


def _manifest(place: Path) -> dict[str, dict[str, Any]] | None:
    """Return what a folder says that it holds, if its files are as long as it says."""
    try:
        found = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        whole = all(
            (place / f"{name}.npy").stat().st_size == one["bytes"] for name, one in found.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return dict(found) if whole else None


def _opened(place: Path) -> Case | None:
    """Return the volumes of a folder, mapped to memory; None if they are not there."""
    manifest = _manifest(place)
    if manifest is None:
        return None
    found: Case = {}
    voxels: dict[int, npt.NDArray[np.int64]] = {}
    for name, entry in manifest.items():
        try:
            # Copied where it is written to, as torch wants tensors that can be.
            array = np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError):
            return None
        if "class" in entry:
            voxels[int(entry["class"])] = array
            continue
        found[name] = torch.from_numpy(array)
        if "affine" in entry:
            affine = torch.tensor(entry["affine"], dtype=torch.float64)
            found[name] = MetaTensor(found[name], affine=affine)
    if "label" in found:
        found[rare_voxels_entry("label")] = voxels
    return found


def _key(case: Mapping[Hashable, Any]) -> str:
    """Return a name for a case with the files that it has now."""
    # The name of a case may be that of a folder, too, of its results for example.
    said = [
        [str(key), str(value) if key == "case" else _said(value)] for key, value in case.items()
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [[str(name), _said(one)] for name, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_said(one) for one in value]
    if isinstance(value, (str, Path)) and Path(value).exists():
        return file_stamps(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value_fingerprint(value)
    return str(value)
