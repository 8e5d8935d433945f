"""The demonstration: what `make demo` shows."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from volseg.demonstration import run_demonstration
from volseg.errors import InputError


def test_the_demonstration_finds_the_organs_and_writes_what_it_says(tmp_path):
    result = run_demonstration(tmp_path / "demo", seed=7)
    dice = {score.name: score.dice for score in result.scores}
    assert set(dice) == {"liver", "spleen", "kidneys", "lesions"}
    assert dice["liver"] > 0.9
    assert dice["kidneys"] > 0.8
    assert all(path.stat().st_size > 0 for path in result.files.values())
    truth, labels = (nib.load(result.files[name]) for name in ("truth", "label map"))
    assert np.array_equal(truth.affine, labels.affine)
    liver = [np.asarray(volume.dataobj) == 1 for volume in (truth, labels)]
    overlap = 2 * (liver[0] & liver[1]).sum() / (liver[0].sum() + liver[1].sum())
    assert overlap == pytest.approx(dice["liver"])
    rows = result.files["statistics"].read_text().splitlines()
    assert len(rows) == 1 + 4


def test_a_seed_of_the_training_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="used in training"):
        run_demonstration(tmp_path, seed=1000)
