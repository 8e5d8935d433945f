"""Which prediction belongs to which reference, by the name of the case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from volseg.errors import InputError
from volseg.io import SUFFIXES, image_name

# What programs append to the name of a case to say that a file is a segmentation of it.
_SEGMENTATION = re.compile(
    r"(?<=.)[._-](seg|segmentation|label|labels|mask|pred|prediction|gt|reference)$", re.IGNORECASE
)
# Files that do not say how large a pixel is.
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# What `volseg segment` writes beside the label map of a case.
_MAPS = re.compile(r"(.+)_(probabilities|entropy|disagreement|preview)")


class CasePair(NamedTuple):
    """A prediction, its reference, and the name both are reported under."""

    case: str
    prediction: Path
    reference: Path


def case_name(path: str | Path) -> str:
    """Return the name of the case a file belongs to: `a/liver_01_seg.nii.gz` gives `liver_01`.

    The suffix of the image format and one ending such as `_seg`, `_label`, `_mask`, `_pred` or
    `.seg` (3D Slicer) are taken off.
    """
    return _SEGMENTATION.sub("", image_name(path))


def pair_files(predictions: str | Path, references: str | Path) -> list[CasePair]:
    """Return the pairs of two files, or of two folders by the name of the case.

    In folders every image file takes part, `<case>.nii.gz` and `<case>_seg.nii.gz` alike; files of
    other kinds, hidden files, subfolders, and the probabilities, maps of uncertainty and previews
    of a case whose label map is there are passed over. No file is dropped silently.

    Args:
        predictions: A file or a folder.
        references: A file if `predictions` is one, else a folder.

    Raises:
        InputError: A path is missing, a file has no partner, or two files of a folder belong to
            the same case; the message names them all.
    """
    pairs, without_reference, without_prediction = pair_common_files(predictions, references)
    unmatched = [
        f"without a {partner}: {', '.join(map(str, lone))}"
        for partner, lone in (("reference", without_reference), ("prediction", without_prediction))
        if lone
    ]
    if unmatched:
        raise InputError(
            f"not every file has a partner in the other folder ({'; '.join(unmatched)}); names "
            "must agree but for an ending such as _seg: rename or move these files."
        )
    return pairs


def pair_common_files(
    predictions: str | Path, references: str | Path
) -> tuple[list[CasePair], list[Path], list[Path]]:
    """Return the pairs of `pair_files`, predictions without a reference, and references without.

    Args:
        predictions: A file or a folder.
        references: A file if `predictions` is one, else a folder.

    Raises:
        InputError: A path is missing, or two files of a folder belong to the same case.
    """
    predictions, references = Path(predictions), Path(references)
    for path in (predictions, references):
        if not path.exists():
            raise InputError(f"{path} does not exist; give a file or folder of label maps.")
    if predictions.is_dir() != references.is_dir():
        raise InputError(
            f"{predictions} and {references} are a file and a folder; expected two files or two "
            "folders."
        )
    if not predictions.is_dir():
        return [CasePair(case_name(predictions), predictions, references)], [], []
    first, second = _cases(predictions), _cases(references)
    return (
        [CasePair(case, first[case], second[case]) for case in sorted(first) if case in second],
        [path for case, path in first.items() if case not in second],
        [path for case, path in second.items() if case not in first],
    )


def length_unit(references: Iterable[str | Path]) -> str:
    """Return the unit of distances in some files: ``pixels`` if none says how large these are."""
    suffixes = {Path(reference).suffix.lower() for reference in references}
    return "pixels" if suffixes and suffixes <= set(_PICTURES) else "mm"


def check_pairs(pairs: Iterable[CasePair | tuple[str, str | Path, str | Path]]) -> list[CasePair]:
    """Return pairs given by hand as `CasePair`s.

    Raises:
        InputError: There are none, or two have the same case name.
    """
    checked = [CasePair(case, Path(first), Path(second)) for case, first, second in pairs]
    if not checked:
        raise InputError("there is no pair of files to evaluate; expected at least one.")
    names = [pair.case for pair in checked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"more than one pair is named {', '.join(twice)}; give each its own name.")
    return checked


def _cases(folder: Path) -> dict[str, Path]:
    cases: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # An .img file is the second half of the .hdr file of the same name.
        known = path.name.lower().endswith(tuple(SUFFIXES)) and path.suffix.lower() != ".img"
        if not known or path.name.startswith(".") or not path.is_file():
            continue
        case = case_name(path)
        if case in cases:
            raise InputError(
                f"{cases[case]} and {path} both belong to the case {case!r}; leave one of them in "
                "the folder, or give the pairs of files yourself."
            )
        cases[case] = path
    if not cases:
        raise InputError(f"{folder} holds no image file; expected label maps such as .nii.gz.")
    return {
        case: path
        for case, path in cases.items()
        if (beside := _MAPS.fullmatch(case)) is None or beside[1] not in cases
    }
