"""Training on a server, without HTTP."""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from volseg.bundle import open_bundle
from volseg.errors import InputError
from volseg.io import read_image, write_segmentation
from volseg.server.datastore import Datastore
from volseg.server.training import Trainer
from volseg.server.training_process import prepare_case, train


def case_of(tiny: Path, label: Path, values: dict[str, int] | None = None) -> dict[str, Any]:
    """An image and its label, in the words of the server."""
    image = tiny.parent / "data" / "images" / "ball0.nii.gz"
    return {"image": str(image), "label": str(label), "values": values}


def label_of_one_value(value: int, tiny: Path, path: Path) -> Path:
    image = read_image(case_of(tiny, path)["image"])
    write_segmentation(np.full(image.shape[1:], value, np.uint8), path, like=image)
    return path


def test_a_training_that_could_not_be_started_is_over(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    for folder in ("data", "data/labels/final"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("a.nii.gz", "b.nii.gz"):
            (tmp_path / folder / name).touch()
    datastore = Datastore(tmp_path / "data", most_bytes=1)
    trainer = Trainer(tmp_path / "training", tmp_path / "trained", datastore, "cpu")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    for _ in range(2):  # and the next one is not refused because of it
        with pytest.raises(OSError, match="Cannot allocate memory"):
            asyncio.run(trainer.start(open_bundle(tiny), 1, {}))
        assert trainer.task is not None
        assert trainer.task.status == "ERROR"


def test_a_label_in_several_layers_is_refused(tiny: Path, tmp_path: Path) -> None:
    """Its first layer alone would be trained on."""
    layers = nib.Nifti1Image(np.ones((20, 24, 16, 2), np.uint8), np.eye(4))
    nib.save(layers, tmp_path / "layers.nii.gz")
    case = case_of(tiny, tmp_path / "layers.nii.gz")
    with pytest.raises(InputError, match="the label of a has 2 layers, .* export it as a label"):
        prepare_case("a", case, open_bundle(tiny), tmp_path / "data")


def test_an_image_that_has_none_of_the_structures_is_trained_on(tiny: Path, tmp_path: Path) -> None:
    bundle, data = open_bundle(tiny), tmp_path / "data"
    empty = label_of_one_value(0, tiny, tmp_path / "empty.nii.gz")
    assert not prepare_case("a", case_of(tiny, empty), bundle, data)
    assert not read_image(data / "labels" / "a.nii.gz").any()
    # One that has others was named by other words.
    other = label_of_one_value(3, tiny, tmp_path / "other.nii.gz")
    with pytest.raises(InputError, match="b has lesion, .* name its segments anterior, posterior"):
        prepare_case("b", case_of(tiny, other, {"lesion": 3}), bundle, data)


def test_a_segment_of_an_unknown_name_is_not_trained_as_background(
    tiny: Path, tmp_path: Path
) -> None:
    """Also where others are known, and where nothing was said of a value."""
    image = read_image(case_of(tiny, tmp_path)["image"])
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[:2], labels[2:4] = 1, 3
    write_segmentation(labels, tmp_path / "label.nii.gz", like=image)

    def prepare(values: dict[str, int] | None) -> bool:
        case = case_of(tiny, tmp_path / "label.nii.gz", values)
        return prepare_case("a", case, open_bundle(tiny), tmp_path / "data")

    with pytest.raises(InputError, match="a has Posterior, which would be trained as background"):
        prepare({"anterior": 1, "Posterior": 3})
    with pytest.raises(InputError, match="a has the value 3, which would be"):
        prepare(None)
    assert prepare({"anterior": 1, "posterior": 3})


def test_labels_that_are_all_empty_are_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("volseg.choosing", "volseg.training"):  # to import, and not yet needed
        monkeypatch.setitem(sys.modules, slow, None)
    empty = label_of_one_value(0, tiny, tmp_path / "empty.nii.gz")
    cases = {name: case_of(tiny, empty) for name in ("a", "b")}
    order = {"bundle": str(tiny), "folder": str(tmp_path), "device": "cpu", "cases": cases}
    with pytest.raises(InputError, match="no finished label has anything of anterior, posterior"):
        train(order, lambda _: None)
