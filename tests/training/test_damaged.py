"""Cases that cannot be used end a training before it begins, or are left out and written down."""

from __future__ import annotations

import json
import time

import pytest

from tests.training.processes import in_processes, wait_at_most
from volseg.bundle import open_bundle
from volseg.data import read_datalist
from volseg.errors import InputError
from volseg.io import read_image, write_segmentation
from volseg.processes import process_rank
from volseg.training import leave_out_damaged, read_run_record, train_bundle


def test_damaged_cases_are_named_or_left_out(tiny_bundle, tmp_path, caplog, monkeypatch):
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
    # The list that was cut short is still of a copy of this bundle, and all that is looked for.
    for case in ("ball2", "ball3"):
        (data / "images" / f"{case}.nii.gz").unlink()
    # And it stays as it is: a read that fails now would make it a run on other cases.
    monkeypatch.setattr("volseg.training.runner.leave_out_damaged", lambda *_: pytest.fail("again"))
    train_bundle(tiny_bundle, data, out, fold=1, epochs=1, skip_damaged=True)
    counted = read_run_record(out / "runs" / "fold1")["data"]
    assert (counted["training_cases"], counted["held_out_cases"]) == (2, 2)


def leave_out_late(bundle, data):
    """Leave cases out where the first process is later than others wait for it elsewhere."""
    wait_at_most(0.5)
    checked = []

    def late(done, total):
        checked.append(total)
        time.sleep(0.5 if process_rank() == 0 else 0)

    return leave_out_damaged(open_bundle(bundle), data, progress=late), checked


def test_processes_share_the_cases_and_wait_for_each_other(tiny_bundle):
    data = tiny_bundle.parent / "data"
    for case in ("ball2", "ball3"):  # one for each process
        (data / "images" / f"{case}.nii.gz").write_bytes(b"nothing")
    for faults, checked in in_processes(2, leave_out_late, tiny_bundle, data):
        assert list(faults) == ["ball2", "ball3"]
        assert checked == [3, 3, 3]
    left = [case.case for case in read_datalist(tiny_bundle / "configs" / "datalist.json")]
    assert left == ["ball0", "ball1", "ball4", "ball5"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # Windows writes a mark
def test_what_was_left_out_before_stays_written_down(tiny_bundle, encoding):
    data, datalist = tiny_bundle.parent / "data", tiny_bundle / "configs" / "datalist.json"
    datalist.write_text(datalist.read_text(), encoding)
    for case in ("ball2", "ball3"):
        (data / "images" / f"{case}.nii.gz").write_bytes(b"nothing")
        assert list(leave_out_damaged(open_bundle(tiny_bundle), data)) == [case]
    assert list(json.loads(datalist.read_text())["left_out"]) == ["ball2", "ball3"]


def test_nothing_left_is_refused(tiny_bundle):
    data = tiny_bundle.parent / "data"
    for path in (data / "images").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 6 cases can be used"):
        leave_out_damaged(open_bundle(tiny_bundle), data)
