"""Cases as they are after what is the same for every draw, kept on the disk and mapped to memory.

A folder holds what one preparation makes of cases: an array file for each volume, so that a patch
is read from where it lies and nothing else is, by any number of processes, folds and runs.
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
            default, and a temporary folder where that cannot be written to.
    """

    def __init__(self, steps: Sequence[Step], folder: str | Path | None = None) -> None:
        self.prepare = Compose(steps)
        what = [*steps, version("volseg"), monai.__version__]
        name = value_fingerprint(what)[:16]
        self._is_temporary = False
        # What nothing can be said of is never the same again: no later run would find it.
        if name != value_fingerprint(what)[:16]:
            self._use_temporary_folder()
        else:
            root = user_cache_folder("prepared") if folder is None else Path(folder)
            self.folder = root / name
        self._given = folder is not None
        self._opened: dict[str, Case] = {}

    def make(self, case: Mapping[Hashable, Any]) -> tuple[str, int]:
        """Prepare a case unless it is there; return its name here and its bytes on the disk.

        Raises:
            InputError: The case cannot be prepared; it is named.
            OutputError: Its files cannot be written.
        """
        key = _key(case)
        manifest = _manifest(self.folder / key)
        if manifest is None:
            self._write(case, key)
            manifest = _manifest(self.folder / key) or {}
        return key, sum(int(one["bytes"]) for one in manifest.values())

    def read(self, case: Mapping[Hashable, Any], key: str | None = None) -> Case:
        """Return a prepared case: its entries, volumes as tensors mapped to memory.

        Beside a label map of one channel, under its name and ``_voxels``, is where its rare classes
        are: a dictionary of class to sorted flat indices.

        Args:
            case: The case.
            key: Its name, as `make` gave it; its files are not looked at again.

        Raises:
            InputError: The case cannot be prepared.
            OutputError: It has to be prepared anew and cannot be written.
        """
        if key is None:
            key, _ = self.make(case)
        if key not in self._opened:
            found = _opened(self.folder / key)
            if found is None:
                _log.warning("%s is damaged: the case is prepared again", self.folder / key)
                self._write(case, key)
                found = _opened(self.folder / key)
            if found is None:
                raise OutputError(
                    f"what was written to {self.folder / key} is not what can be read from it: "
                    "look at the disk, or give another folder (prepared)."
                )
            self._opened[key] = found
        return {**case, **self._opened[key]}

    def _write(self, case: Mapping[Hashable, Any], key: str) -> None:
        try:
            made = self.prepare(dict(case))
        except Exception as error:
            kind = GeometryError if isinstance(first_cause(error), GeometryError) else InputError
            raise kind(
                f"the case {case.get('case', key)} cannot be prepared: {reason_of(error)}"
            ) from error
        try:
            _write(made, self.folder / key)
        except OutputError as error:
            if _manifest(self.folder / key) is not None:  # another process was faster
                return
            if self._given or self._is_temporary:
                raise
            _log.warning("a temporary folder is used: %s", error)
            self._use_temporary_folder()
            _write(made, self.folder / key)

    def _use_temporary_folder(self) -> None:
        self._is_temporary = True
        self.folder = Path(tempfile.mkdtemp(prefix="volseg-prepared-"))
        weakref.finalize(self, _remove, self.folder, os.getpid())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


def _write(made: Mapping[Hashable, Any], place: Path) -> None:
    """Write the volumes of a case to a folder that appears whole or not at all."""
    with replacing_folder(place, marked_by=_MANIFEST) as temporary:
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
    return {"bytes": path.stat().st_size, "crc32": zlib.crc32(array.data if array.size else b"")}


def _rare_voxels(labels: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """Return the flat indices of the voxels of each class that has few."""
    values, counts = np.unique(labels, return_counts=True)
    return {
        int(value): np.flatnonzero(labels == value)
        for value, count in zip(values, counts, strict=True)
        if count < _RARE * labels.size
    }


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
    """Return the volumes of a folder, mapped to memory; None if they are damaged."""
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
        if zlib.crc32(array.data if array.size else b"") != entry["crc32"]:
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
    said = [[str(name), _said(value)] for name, value in case.items()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [[str(name), _said(one)] for name, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_said(one) for one in value]
    if isinstance(value, (str, Path)) and (path := Path(value)).exists():
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*"))
        return [[str(one.absolute()), one.stat().st_size, one.stat().st_mtime_ns] for one in files]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value_fingerprint(value)
    return str(value)
