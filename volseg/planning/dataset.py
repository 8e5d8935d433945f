"""What is planned for: the files of cases, and what their labels and channels are called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volseg.data import LABELS, Case, list_cases, paired_cases, read_datalist
from volseg.errors import InputError
from volseg.io import ImageSource
from volseg.planning.label_scheme import LabelScheme, stated_scheme

# Ours, and those of the Medical Decathlon and of nnU-Net.
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_DESCRIPTION = "dataset.json"
_MAGNETIC_RESONANCE = re.compile(r"(mri?|t1|t2|pd|flair|dwi|adc|swi)", re.IGNORECASE)

CaseFiles = Mapping[str, tuple[ImageSource, str | Path]]
"""Image and label of each case, by name."""


@dataclass(frozen=True)
class Dataset:
    """The files of cases, and the names that belong to them.

    Attributes:
        folder: What the paths of the cases are relative to.
        files: Image and label of each case, by name.
        scheme: What the values in the label files stand for; no classes if the data do not say.
        channels: Names of the image channels, in order; none if the data do not say.
        datalist: Cases that are dealt already; none of a folder.
        about: What the datalist says of them.
        folders: Where a folder has its images and its labels.
        patients: As for `volseg.data.list_cases`.
        folds: Number of folds of a folder.
        stratify: As for `volseg.data.list_cases`.
    """

    folder: Path
    files: CaseFiles
    scheme: LabelScheme
    channels: tuple[str, ...]
    datalist: tuple[Case, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[str, str] = _FOLDERS[0]
    patients: Path | None = None
    folds: int = 5
    stratify: str | None = LABELS

    @property
    def named_channels(self) -> tuple[str, ...]:
        """The channels, if there are several or if they are files of their own."""
        apart = any(isinstance(image, Mapping) for image, _ in self.files.values())
        return self.channels if apart or len(self.channels) > 1 else ()

    @property
    def modality(self) -> str:
        """``CT`` or ``MR`` if all channels are called so, else empty."""
        if self.channels and all(name.upper() == "CT" for name in self.channels):
            return "CT"
        if self.channels and all(_MAGNETIC_RESONANCE.match(name) for name in self.channels):
            return "MR"
        return ""

    def dealt(self, sizes: Mapping[str, Mapping[int, float]]) -> tuple[list[Case], dict[str, Any]]:
        """Return some of the cases with patients and folds, and how they were dealt.

        Args:
            sizes: Name of each of them, to the size of each label in it by value.

        Raises:
            InputError: There are fewer patients than folds, or the patient of a case is missing.
        """
        if self.datalist:
            return [case for case in self.datalist if case.case in sizes], dict(self.about)
        images, labels = self.folders
        return list_cases(
            self.folder,
            images=images,
            labels=labels,
            patients=self.patients,
            folds=self.folds,
            only=sizes.keys(),
            channels=self.channels,
            stratify=self.stratify,
            sizes=sizes,
        )


def open_dataset(
    source: str | Path,
    *,
    data: str | Path | None = None,
    patients: str | Path | None = None,
    folds: int = 5,
    channels: Sequence[str] = (),
    stratify: str | None = LABELS,
) -> Dataset:
    """Return the data set of a folder or of a datalist.

    A folder holds ``images`` and ``labels``, or ``imagesTr`` and ``labelsTr``, with the same file
    names; ``dataset.json`` in it, as the Medical Decathlon or nnU-Net have it, says what labels and
    channels are called.

    Args:
        source: Folder, or JSON file that `volseg.data.write_datalist` wrote.
        data: Folder that the paths in a datalist are relative to; that of the datalist without it.
        patients: CSV file with the columns ``case`` and ``patient``, for a folder.
        folds: Number of folds, for a folder.
        channels: Names of the image channels, in order, which may be files of their own (see
            `volseg.data.list_images`); what ``dataset.json`` or the datalist says without it.
        stratify: As for `volseg.data.list_cases`, for a folder.

    Raises:
        InputError: It is neither, or what it says cannot be used.
    """
    source = Path(source)
    if source.is_file():
        return _of_datalist(source, Path(data or source.parent), tuple(channels))
    if not source.is_dir():
        raise InputError(f"there is no data set {source}: give a folder or a datalist (.json).")
    for folders in _FOLDERS:
        if (source / folders[0]).is_dir():
            break
    else:
        raise InputError(
            f"the folder {source} has no images: expected the folders images and labels, or "
            "imagesTr and labelsTr, with the same file names."
        )
    path = source / _DESCRIPTION
    content = _object(path) if path.is_file() else {}
    names = tuple(channels) or _channels(content)
    return Dataset(
        folder=source,
        files=paired_cases(source / folders[0], source / folders[1], names),
        scheme=stated_scheme(content, str(path)),
        channels=names,
        folders=folders,
        patients=None if patients is None else Path(patients),
        folds=folds,
        stratify=stratify,
    )


def _of_datalist(path: Path, data: Path, channels: tuple[str, ...]) -> Dataset:
    cases = read_datalist(path)
    content = _object(path)
    return Dataset(
        folder=data,
        files={case.case: (_placed(case.image, data), data / case.label) for case in cases},
        scheme=stated_scheme(content, str(path)),
        channels=channels or _channels(content) or _named_files(cases),
        datalist=tuple(cases),
        about={key: value for key, value in content.items() if key != "training"},
        folds=len({case.fold for case in cases}),
    )


def _placed(image: str | Mapping[str, str], data: Path) -> ImageSource:
    if isinstance(image, str):
        return data / image
    return {channel: data / path for channel, path in image.items()}


def _named_files(cases: Sequence[Case]) -> tuple[str, ...]:
    image = cases[0].image if cases else ""
    return () if isinstance(image, str) else tuple(image)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): repair it, or take it away.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected an object.")
    return content


def _channels(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return names without spaces, in the order of their numbers."""
    entries = content.get("channel_names") or content.get("modality") or {}
    if not isinstance(entries, Mapping) or not all(key.isdigit() for key in entries):
        return ()
    return tuple(re.sub(r"[^\w.+-]+", "_", str(entries[key])) for key in sorted(entries, key=int))
