"""Images and labels that people work on: a plain folder, laid out as MONAI Label lays out its own.

``<image>.nii.gz`` and so on are the images, ``labels/<tag>/<image>.nii.gz`` their labels, and
``<image>.info.json`` beside either what was said about it. What is there when the server starts is
served; what is uploaded stays.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.atomic import replacing, write_text
from volseg.errors import InputError, VolsegError
from volseg.io import image_name
from volseg.server.content import ZIP, suffix_of_content

FINAL = "final"
"""The tag of labels that are finished: those that are trained on."""
_LABELS = "labels"
_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm")
_INFO = ".info.json"


class NotThereError(VolsegError):
    """What was asked for is not there."""


class Datastore:
    """A folder of images and labels.

    Args:
        folder: made if missing.
        most_bytes: that an image may have once it is unpacked.
    """

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def images(self) -> dict[str, Path]:
        """Return all images by name."""
        return _images_in(self.folder)

    def labels(self) -> dict[str, dict[str, Path]]:
        """Return the labels by tag and by the name of their image."""
        folder = self.folder / _LABELS
        tags = sorted(folder.iterdir()) if folder.is_dir() else []
        return {tag.name: _images_in(tag) for tag in tags if tag.is_dir()}

    def finished(self) -> dict[str, tuple[Path, Path]]:
        """Return image and label of everything with a finished label, by name."""
        images, labels = self.images(), self.labels().get(FINAL, {})
        return {name: (images[name], labels[name]) for name in images if name in labels}

    def image(self, name: str) -> Path:
        """Return the file of an image.

        Raises:
            NotThereError: there is none.
        """
        return _found(self.images(), name, "image")

    def label(self, name: str, tag: str) -> Path:
        """Return the file of a label.

        Raises:
            NotThereError: there is none.
        """
        return _found(self.labels().get(tag, {}), name, f"label {tag!r} of an image")

    def add_image(self, name: str, received: Path, info: Mapping[str, Any]) -> None:
        """Keep an image; another one under its name goes only if no label would then be wrong.

        Raises:
            InputError: the name or the content cannot be used, or the image has labels.
            OutputError: it cannot be written.
        """
        _require_name(name)
        if any(name in labels for labels in self.labels().values()) and name in self.images():
            raise InputError(f"the image {name!r} has labels: remove it first, or take a new name.")
        self._keep(name, received, self.folder, info)

    def add_label(self, name: str, tag: str, received: Path, info: Mapping[str, Any]) -> None:
        """Keep a label, in the place of an earlier one of the same tag.

        Raises:
            NotThereError: there is no such image.
            InputError: the tag or the content cannot be used.
            OutputError: it cannot be written.
        """
        self.image(name)
        _require_name(tag)
        self._keep(name, received, self.folder / _LABELS / tag, info)

    def remove_image(self, name: str) -> None:
        """Remove an image and all of its labels.

        Raises:
            NotThereError: there is none.
        """
        image = self.image(name)
        for labels in self.labels().values():
            if name in labels:
                _remove(labels[name])
        _remove(image)

    def remove_label(self, name: str, tag: str) -> None:
        """Remove a label.

        Raises:
            NotThereError: there is none.
        """
        _remove(self.label(name, tag))

    def _keep(self, name: str, received: Path, folder: Path, info: Mapping[str, Any]) -> None:
        suffix = suffix_of_content(received, most_bytes=self._most_bytes)
        if suffix == ZIP:
            raise InputError("the datastore keeps single files: send NIfTI, NRRD or MetaImage.")
        before = _images_in(folder).get(name)
        target = folder / f"{name}{suffix}"
        with replacing(target) as temporary:
            shutil.move(received, temporary)
        if before is not None and before != target:  # of another format
            before.unlink()
        write_info(target, info)


def read_info(path: Path) -> dict[str, Any]:
    """Return what was said about an image or a label; nothing if nothing was."""
    try:
        found = json.loads(_info_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_info(path: Path, info: Mapping[str, Any]) -> None:
    """Keep what is said about an image or a label.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(_info_of(path), json.dumps(info))


def _images_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {
        image_name(path): path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(_SUFFIXES)
        and not path.name.startswith(".")
        and path.is_file()
    }


def _info_of(path: Path) -> Path:
    return path.with_name(f"{image_name(path)}{_INFO}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _info_of(path).unlink(missing_ok=True)


def _found(files: Mapping[str, Path], name: str, what: str) -> Path:
    # Looked up among what is there, so that no name can lead anywhere else.
    if name not in files:
        raise NotThereError(f"the datastore has no {what} called {name[:128]!r}.")
    return files[name]


def _require_name(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name) is None or name.endswith(".info"):
        raise InputError(
            f"{name[:128]!r} cannot be a name here: expected letters, digits, '.', '_' and '-', "
            "128 of them at most, a letter or a digit first."
        )
