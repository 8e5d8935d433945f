"""Lists of cases: the Medical Decathlon's JSON layout with a patient and a fold for each case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from volseg.atomic import write_text
from volseg.data.channel_files import by_name, channel_files
from volseg.errors import InputError
from volseg.io import IMAGE_SUFFIXES, dicom_folders, image_files, image_name


@dataclass(frozen=True)
class Case:
    """One case: paths relative to the data folder, the patient it is of, and its fold.

    Attributes:
        case: Name.
        image: Path of the image, or of each of its channels by name.
        label: Path of the label.
        patient: Whose images share a fold.
        fold: From 0.
    """

    case: str
    image: str | Mapping[str, str]
    label: str
    patient: str
    fold: int

    @property
    def files(self) -> list[str]:
        """All the paths of the case."""
        return [*([self.image] if isinstance(self.image, str) else self.image.values()), self.label]


def list_images(folder: str | Path, channels: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return ``[{"image": path, "case": name}]`` of all images in ``folder``, sorted.

    These are its image files; without any the folders in it with DICOM files at any depth, one
    series each; or the folder itself, if DICOM files lie right in it. What is hidden is left out.

    Args:
        folder: Holds image files, or for each channel a folder of them.
        channels: Names of the channels, in order. Where the folder has them in files of their own
            (see `volseg.data.channel_files`), ``image`` is their paths by name.

    Raises:
        InputError: The folder does not exist or holds no image, or a case lacks a channel or has
            one twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give a folder of images.")
    if channels:
        cases = channel_files(folder, channels)
        if cases:
            return [
                {"image": {name: str(path) for name, path in files.items()}, "case": case}
                for case, files in cases.items()
            ]
    paths = image_files(folder) or dicom_folders(folder)
    if not paths:
        raise InputError(
            f"the folder {folder} holds no image: expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}, or folders of DICOM files."
        )
    return [{"image": str(path), "case": image_name(path)} for path in paths]


def paired_cases(
    images: str | Path, labels: str | Path, channels: Sequence[str] | None = None
) -> dict[str, tuple[str | dict[str, str], str]]:
    """Return image and label path of each case; both folders must hold the same names.

    Args:
        images: Folder of the images.
        labels: Folder of the labels.
        channels: As for `list_images`.

    Raises:
        InputError: A folder is missing or empty, a case lacks its image or its label, or two
            images or labels have one name.
    """
    image_of = by_name((item["case"], item["image"]) for item in list_images(images, channels))
    label_of = by_name((item["case"], item["image"]) for item in list_images(labels))
    lonely = sorted(image_of.keys() ^ label_of.keys())
    if lonely:
        raise InputError(
            f"{len(lonely)} cases of {images} and {labels} lack an image or a label "
            f"(first: {lonely[0]}): give both folders the same file names."
        )
    return {case: (image_of[case], label_of[case]) for case in sorted(image_of)}


def write_datalist(cases: Iterable[Case], path: str | Path, *, about: Mapping[str, object]) -> None:
    """Write cases as JSON (``{..., "training": [case, ...]}``), one case a line.

    Args:
        cases: The cases.
        path: File to write, whole or not at all.
        about: What else a reader should know (data, seed, grouping), written first.

    Raises:
        OutputError: The file could not be written.
    """
    write_text(path, datalist_text(cases, about=about))


def datalist_text(cases: Iterable[Case], *, about: Mapping[str, object]) -> str:
    """Return what `write_datalist` writes."""
    head = json.dumps(dict(about), indent=2)[1:-2] + "," if about else ""
    rows = ",\n".join("    " + json.dumps(asdict(case)) for case in cases)
    return f'{{{head}\n  "training": [\n{rows}\n  ]\n}}\n'


def read_datalist(path: str | Path) -> list[Case]:
    """Return the cases of a datalist file.

    Raises:
        InputError: The file is missing, cannot be read, is not JSON, a case lacks a key, two have
            one name, or a patient is in two folds.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))["training"]
        cases = [Case(**{key: entry[key] for key in Case.__annotations__}) for entry in entries]
        if not all(isinstance(name, str) for case in cases for name in case.files):
            raise TypeError("a path is no text")
        if not all(isinstance(case.fold, int) for case in cases):
            raise TypeError("a fold is no whole number")
    except FileNotFoundError as error:
        raise InputError(
            f"there is no datalist {path}, which says what to train on: make the bundle with "
            "`volseg bundle new ... --data FOLDER`, or write the list with volseg.data.list_cases."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a datalist ({type(error).__name__}: {error}): expected JSON with a "
            f"list 'training' of cases with the keys {', '.join(Case.__annotations__)}."
        ) from error
    _require_apart(cases, path)
    return cases


def _require_apart(cases: Iterable[Case], path: Path) -> None:
    """Refuse cases that would be taken for each other, or trained on and held out at once."""
    names: set[str] = set()
    first_of: dict[str, Case] = {}
    for case in cases:
        if case.case in names:
            raise InputError(f"{path} has two cases called {case.case}: give each its own name.")
        names.add(case.case)
        first = first_of.setdefault(case.patient, case)
        if first.fold != case.fold:
            raise InputError(
                f"the patient {case.patient} of {path} is in fold {first.fold} ({first.case}) and "
                f"in fold {case.fold} ({case.case}): give all cases of a patient one fold, or "
                "networks are judged by patients they were trained on."
            )


def fold_cases(
    datalist: str | Path,
    data: str | Path,
    *,
    fold: int | Literal["all"],
    held_out: bool,
    number: int | None = None,
) -> list[dict[str, Any]]:
    """Return ``[{"image", "label", "case"}]`` with full paths, of one fold or of all the others.

    Where a case names the files of its channels, ``image`` is their paths by name.

    Args:
        datalist: File written by `write_datalist`.
        data: Folder that the paths in it are relative to.
        fold: The held-out fold; ``all`` if none is, and every case is one of the others.
        held_out: True for the cases of ``fold``, False for all the others.
        number: How many of them, spread evenly over the list; all without it.

    Raises:
        InputError: No case is left, there are fewer than asked for, or a file does not exist.
    """
    data = Path(data)
    cases = read_datalist(datalist)
    chosen = [case for case in cases if (case.fold == fold) == held_out]
    if not chosen:
        folds = ", ".join(map(str, sorted({case.fold for case in cases})))
        raise InputError(
            f"{datalist} has no case {'in' if held_out else 'outside'} fold {fold}; its folds are "
            f"{folds or 'none'}: choose another."
        )
    if number is not None:
        if not 1 <= number <= len(chosen):
            raise InputError(
                f"{number} cases were asked for, but {datalist} has {len(chosen)} "
                f"{'in' if held_out else 'outside'} fold {fold}: ask for 1 to {len(chosen)}."
            )
        chosen = [chosen[(2 * place + 1) * len(chosen) // (2 * number)] for place in range(number)]
    for case in chosen:
        for relative in case.files:
            if not (data / relative).exists():
                raise InputError(
                    f"case {case.case} of {datalist} needs {data / relative}, which does not "
                    "exist: give the folder of the data set."
                )
    return [
        {"image": _within(data, c.image), "label": str(data / c.label), "case": c.case}
        for c in chosen
    ]


def _within(folder: Path, image: str | Mapping[str, str]) -> str | dict[str, str]:
    if isinstance(image, str):
        return str(folder / image)
    return {channel: str(folder / path) for channel, path in image.items()}
