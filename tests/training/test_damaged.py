"""Cases that cannot be used end a training before it begins, or are left out and written down."""

from __future__ import annotations

import json

import pytest

from volseg.data import read_datalist
from volseg.errors import InputError
from volseg.io import read_image, write_segmentation
from volseg.training import leave_out_damaged, read_run_record, train_bundle


def test_damaged_cases_are_named_or_left_out(tiny_bundle, tmp_path, caplog):
    data, out = tiny_bundle.parent / "data", tmp_path / "t"
    image = data / "images" / "ball2.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    labels = read_image(data / "labels" / "ball3.nii.gz")[0].numpy().astype("uint8")
    labels[:4] = 7  # a class the bundle does not have
    write_segmentation(labels, data / "labels" / "ball3.nii.gz", like=data / "images/ball3.nii.gz")
    with pytest.raises(InputError, match="ball[23]"):
        train_bundle(tiny_bundle, data, out, epochs=1)
    assert not (out / "runs" / "fold1" / "checkpoint.pt").exists()
    train_bundle(tiny_bundle, data, out, fold=1, epochs=1, skip_damaged=True)
    text = " ".join(record.getMessage() for record in caplog.records)
    assert "left out: ball2: cannot read" in text
    assert "left out: ball3: " in text
    datalist = out / "configs" / "datalist.json"
    assert [case.case for case in read_datalist(datalist)] == ["ball0", "ball1", "ball4", "ball5"]
    assert set(json.loads(datalist.read_text())["left_out"]) == {"ball2", "ball3"}
    # The list that was cut short is still of a copy of this bundle.
    train_bundle(tiny_bundle, data, out, fold=1, epochs=1, skip_damaged=True)
    counted = read_run_record(out / "runs" / "fold1")["data"]
    assert (counted["training_cases"], counted["held_out_cases"]) == (2, 2)


def test_nothing_left_is_refused(tiny_bundle):
    from volseg.bundle import open_bundle

    data = tiny_bundle.parent / "data"
    for path in (data / "images").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 6 cases can be used"):
        leave_out_damaged(open_bundle(tiny_bundle), data)
