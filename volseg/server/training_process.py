"""The process that trains: a bundle on the finished labels of the datastore, then measured.

Its order comes as JSON on standard input, and what it reports are lines of JSON on standard output;
when its input ends, the server is gone and it ends, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.bundle import Bundle, copy_bundle, open_bundle
from volseg.data import list_cases, write_datalist
from volseg.errors import InputError, VolsegError
from volseg.io import affine_of, image_name, meta_tensor, read_image, write_segmentation
from volseg.server.contiguous import contiguous_labels
from volseg.server.private_output import Tell, private_output

if TYPE_CHECKING:
    from volseg.training import TrainingState

_MOST_FOLDS = 5
_MOST_LISTED = 12


def main() -> None:
    """Train as the server says; exit code 1 if that was not possible."""
    tell = private_output()
    order = json.loads(sys.stdin.readline())

    def end_with_the_server() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_the_server, daemon=True).start()
    try:
        train(order, tell)
    except VolsegError as error:
        # Where the files of this server lie is nobody's business.
        tell({"error": str(error).replace(f"{order['folder']}{os.sep}", "")})
        raise SystemExit(1) from None


def train(order: Mapping[str, Any], tell: Tell) -> None:
    """Train a bundle and put the result where the server finds it.

    Args:
        order: ``bundle``, ``folder`` to work in, ``cases`` (image, label and, if known, what its
            values are called, by name), ``epochs`` or None, ``device``, and ``result``.
        tell: is told how far it is.

    Raises:
        InputError: the data cannot be trained on.
        OutputError: something cannot be written.
    """
    folder, device = Path(order["folder"]), order["device"]
    bundle = open_bundle(order["bundle"])
    data = folder / "data"
    labelled = [prepare_case(name, case, bundle, data) for name, case in order["cases"].items()]
    if not any(labelled):
        raise InputError(
            f"no finished label has anything of {', '.join(bundle.labels)}: submit some that have."
        )
    folds = min(_MOST_FOLDS, len(order["cases"]))
    cases, about = list_cases(data, folds=folds)
    source = folder / "bundle"
    copy_bundle(bundle, source, without=("runs", "models"))
    write_datalist(cases, source / "configs" / "datalist.json", about=about)

    from volseg.choosing import learn_quality, measure_bundle, record_measurement, write_quality  # noqa: PLC0415 - slow to import: after the data are found to be fit
    from volseg.training import train_bundle  # noqa: PLC0415 - slow to import: after the data are found to be fit

    def report(state: TrainingState) -> None:
        tell({"epoch": state.epoch, "epochs": state.epochs, "metric": state.key_metric})

    trained = folder / "trained"
    train_bundle(source, data, trained, epochs=order["epochs"], device=device, progress=report)
    record_measurement(trained, data, measure_bundle(trained, data, device=device))
    with contextlib.suppress(InputError):  # too few cases: it is trained all the same
        write_quality(trained, learn_quality(trained, data, device=device))
    result = Path(order["result"])
    result.parent.mkdir(parents=True, exist_ok=True)
    trained.rename(result)


def prepare_case(name: str, case: Mapping[str, Any], bundle: Bundle, data: Path) -> bool:
    """Lay down an image, and its label with the values of the bundle, on the image's grid.

    Returns:
        Whether anything is labelled: an image may have none of the structures.

    Raises:
        InputError: the label has several layers, negative values, or any of no known name.
    """
    source = Path(case["image"])
    image = data / "images" / f"{name}{source.name[len(image_name(source)) :]}"
    image.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, image)
    labels = read_image(case["label"])
    if len(labels) > 1:
        raise InputError(
            f"the label of {name} has {len(labels)} layers, as segments that overlap are stored: "
            "expected one value a voxel, so export it as a label map."
        )
    values = np.rint(labels.as_tensor().numpy()[0]).astype(np.int64)
    if values.min(initial=0) < 0:
        raise InputError(f"the label of {name} has negative values: expected 0 and up.")
    called = case["values"] or contiguous_labels(bundle.labels)
    table = np.zeros(max(int(values.max(initial=0)), *called.values(), 0) + 1, np.int32)
    for label, value in called.items():
        if label in bundle.labels:
            table[value] = bundle.labels[label]
    renumbered = table[values]
    strange = np.unique(values[(values > 0) & (renumbered == 0)])[:_MOST_LISTED].tolist()
    if strange:
        names = {value: label for label, value in called.items()}
        listed = ", ".join(names.get(value, f"the value {value}") for value in strange)
        raise InputError(
            f"the label of {name} has {listed}, which would be trained as background: name its "
            f"segments {', '.join(bundle.labels)}, and remove those that are something else."
        )
    suffix = ".nii.gz" if bundle.spatial_dims == 3 else ".png"
    target = data / "labels" / f"{name}{suffix}"
    with_place = meta_tensor(renumbered[np.newaxis], affine_of(labels))
    write_segmentation(with_place, target, like=image)
    return bool(renumbered.any())


if __name__ == "__main__":
    main()
