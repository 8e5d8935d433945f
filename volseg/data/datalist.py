"""Lists of cases: the Medical Decathlon's JSON layout with a patient and a fold for each case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from volseg.atomic import replacing
from volseg.errors import InputError
from volseg.io import SUFFIXES, image_name

# The second file of a NIfTI pair is found through its .hdr.
_IMAGES = tuple(suffix for suffix in SUFFIXES if suffix != ".img")


@dataclass(frozen=True)
class Case:
    """One case: paths relative to the data folder, the patient it is of, and its fold."""

    case: str
    image: str
    label: str
    patient: str
    fold: int


def list_images(folder: str | Path) -> list[dict[str, str]]:
    """Return ``[{"image": path, "case": name}]`` of all image files in ``folder``, sorted.

    Hidden files are left out.

    Raises:
        InputError: The folder does not exist or holds no image file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give a folder of images.")
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(_IMAGES) and not path.name.startswith(".")
    ]
    if not paths:
        raise InputError(
            f"the folder {folder} holds no image: expected files ending in {', '.join(_IMAGES)}."
        )
    return [{"image": str(path), "case": image_name(path)} for path in paths]


def paired_cases(images: str | Path, labels: str | Path) -> dict[str, tuple[Path, Path]]:
    """Return image and label path of each case; both folders must hold the same names.

    Raises:
        InputError: A folder is missing or empty, or a case lacks its image or its label.
    """
    image_of = {item["case"]: Path(item["image"]) for item in list_images(images)}
    label_of = {item["case"]: Path(item["image"]) for item in list_images(labels)}
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
    head = json.dumps(dict(about), indent=2)[1:-2] + "," if about else ""
    rows = ",\n".join("    " + json.dumps(asdict(case)) for case in cases)
    with replacing(path) as temporary:
        temporary.write_text(f'{{{head}\n  "training": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def read_datalist(path: str | Path) -> list[Case]:
    """Return the cases of a datalist file.

    Raises:
        InputError: The file is missing, is not JSON, or a case lacks a key.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["training"]
        return [Case(**{key: entry[key] for key in Case.__annotations__}) for entry in entries]
    except FileNotFoundError as error:
        raise InputError(
            f"there is no datalist {path}, which says what to train on: make the bundle with "
            "`volseg bundle new ... --data FOLDER`, or write the list with volseg.data.list_cases."
        ) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a datalist ({type(error).__name__}: {error}): expected JSON with a "
            f"list 'training' of cases with the keys {', '.join(Case.__annotations__)}."
        ) from error


def fold_cases(
    datalist: str | Path,
    data: str | Path,
    *,
    fold: int,
    held_out: bool,
    number: int | None = None,
) -> list[dict[str, str]]:
    """Return ``[{"image", "label", "case"}]`` with full paths, of one fold or of all the others.

    Args:
        datalist: File written by `write_datalist`.
        data: Folder that the paths in it are relative to.
        fold: The held-out fold.
        held_out: True for the cases of ``fold``, False for all the others.
        number: How many of them, spread evenly over the list; all without it.

    Raises:
        InputError: No case is left, there are fewer than asked for, or a file does not exist.
    """
    data = Path(data)
    chosen = [case for case in read_datalist(datalist) if (case.fold == fold) == held_out]
    if not chosen:
        raise InputError(f"{datalist} has no case {'in' if held_out else 'outside'} fold {fold}.")
    if number is not None:
        if not 1 <= number <= len(chosen):
            raise InputError(
                f"{number} cases were asked for, but {datalist} has {len(chosen)} "
                f"{'in' if held_out else 'outside'} fold {fold}: ask for 1 to {len(chosen)}."
            )
        chosen = [chosen[(2 * place + 1) * len(chosen) // (2 * number)] for place in range(number)]
    for case in chosen:
        for relative in (case.image, case.label):
            if not (data / relative).is_file():
                raise InputError(
                    f"case {case.case} of {datalist} needs {data / relative}, which does not "
                    "exist: give the folder of the data set."
                )
    return [
        {"image": str(data / c.image), "label": str(data / c.label), "case": c.case} for c in chosen
    ]
