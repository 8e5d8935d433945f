"""The cases a bundle was not trained on, to judge it by, and those it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor
from monai.transforms import Compose

from volseg.bundle import Bundle, build_label_reading, open_bundle
from volseg.data import fold_cases
from volseg.errors import InputError
from volseg.geometry import require_same_grid
from volseg.io import ImageSource, grid_of
from volseg.training.run_record import read_run_record


@dataclass(frozen=True)
class LabelledCase:
    """One case.

    Attributes:
        name: As in the datalist.
        image: Path of the image, or of each of its channels by name.
        label: Path of the label file.
        reading: What makes classes of the label file.
    """

    name: str
    image: ImageSource
    label: str
    reading: Callable[[dict[str, Any]], dict[str, Any]]

    @property
    def files(self) -> list[str | Path]:
        """All of its files, the label last."""
        images = self.image.values() if isinstance(self.image, Mapping) else [self.image]
        return [*images, self.label]

    def reference(self, prediction: MetaTensor) -> npt.NDArray[Any]:
        """Return the classes ``(x, y, z)`` of the label file, on the grid of a prediction or image.

        Raises:
            InputError: The file cannot be read.
            GeometryError: It lies on another grid.
        """
        reference = self.reading({"label": self.label})["label"]
        what = f"the image of the case {self.name} and its label {self.label}"
        require_same_grid(grid_of(prediction), grid_of(reference), what=what)
        found = np.rint(reference.numpy()[0])
        kind = np.uint8 if found.max() <= np.iinfo(np.uint8).max else np.uint16
        classes: npt.NDArray[Any] = found.astype(kind)
        return classes


def held_out_cases(
    bundle: Bundle, data: str | Path, *, fold: int = 0, number: int | None = None
) -> list[LabelledCase]:
    """Return the cases of the held-out fold of ``configs/datalist.json``.

    Args:
        bundle: The bundle.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        number: How many, spread evenly over the list; all without it.

    Raises:
        InputError: The bundle was trained on these cases, has no datalist or none so long, or a
            file does not exist.
    """
    require_unseen(bundle, fold)
    return _cases(bundle, data, fold=fold, held_out=True, number=number)


def unseen_cases(
    bundle: str | Path,
    datalist: str | Path,
    data: str | Path,
    *,
    fold: int,
    checkpoint: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Return the cases of a fold for ``configs/evaluate.yaml``, as `volseg.data.fold_cases` does.

    The folds of another list than the bundle's own are of other cases, so any of them may be meant.

    Args:
        bundle: Its folder.
        datalist: The bundle's own, or another one.
        data: The folder the paths in it are relative to.
        fold: Of the list.
        checkpoint: The weights that are judged, the bundle's own by default. Of those of a run, its
            record beside them says what was held out, and not the metadata of the bundle.

    Raises:
        InputError: The weights were trained on these cases, or the list has none of this fold.
        BundleError: The folder holds no bundle.
    """
    opened = open_bundle(bundle)
    if Path(datalist).resolve() == _own_list(opened).resolve():
        run = {} if checkpoint is None else read_run_record(Path(checkpoint).parent)
        settings = run.get("settings", {})
        if "fold" in settings:
            _require_held_out(f"the network {checkpoint}", settings["fold"], fold)
        else:
            require_unseen(opened, fold)
    return fold_cases(datalist, data, fold=fold, held_out=True)


def reads_labels_as_they_are(bundle: Bundle) -> bool:
    """Return whether the values in label files are the classes, so that nothing is made of them."""
    reading = build_label_reading(bundle)
    return isinstance(reading, Compose) and len(reading.transforms) == 1


def require_unseen(bundle: Bundle, fold: int) -> None:
    """Refuse a fold that a bundle, or a member of an ensemble, says it was trained on.

    Raises:
        InputError: Its metadata say that another fold was held out.
    """
    for name, held_out in _held_out_folds(bundle.metadata, bundle.name):
        _require_held_out(name, held_out, fold)


def _require_held_out(name: str, held_out: Any, fold: int) -> None:
    if held_out != fold:
        kept = "none was" if held_out == "all" else f"{held_out} was"
        raise InputError(
            f"{name} was trained on the cases of fold {fold} ({kept} held out), which say "
            "nothing of others: choose and measure on cases that no network has seen."
        )


def _held_out_folds(metadata: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    for member in metadata.get("ensemble", ()):
        told = str(member.get("name", name))
        yield from _held_out_folds({"ensemble": member.get("members", ())}, told)
        if "fold" in member:
            yield told, member["fold"]
    training = metadata.get("training", {})
    if "fold" in training:
        yield f"the bundle {name}", training["fold"]


def training_cases(bundle: Bundle, data: str | Path, *, fold: int = 0) -> list[LabelledCase]:
    """Return the cases of all other folds; see `held_out_cases`."""
    return _cases(bundle, data, fold=fold, held_out=False)


def _cases(
    bundle: Bundle, data: str | Path, *, fold: int, held_out: bool, number: int | None = None
) -> list[LabelledCase]:
    reading = build_label_reading(bundle)
    return [
        LabelledCase(case["case"], case["image"], case["label"], reading)
        for case in fold_cases(_own_list(bundle), data, fold=fold, held_out=held_out, number=number)
    ]


def _own_list(bundle: Bundle) -> Path:
    return bundle.folder / "configs" / "datalist.json"
