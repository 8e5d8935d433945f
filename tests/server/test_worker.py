"""The process of a server that computes, job by job."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volseg.errors import InputError
from volseg.segmenter import read_record
from volseg.server.jobs import RECORD
from volseg.server.worker import _require_moderate, _Work


def test_a_bundle_is_loaded_anew_once_its_configurations_changed(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    setup = {"device": "cpu", "memory": None, "most_bytes": 10**9}
    work = _Work(setup, lambda _: None, lambda: False)
    digests = []
    for name in ("first", "same", "changed"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(tiny_bundle.parent / "data" / "images" / "ball0.nii.gz", folder)
        if name == "changed":  # as a choice of rules or of tiles changes it, but not the weights
            config = tiny_bundle / "configs" / "inference.yaml"
            config.write_text(config.read_text() + "\n")
        job = {
            "folder": str(folder),
            "bundle": str(tiny_bundle),
            "inputs": {"image": "ball0.nii.gz"},
            "reference": None,
            "contiguous": False,
            "options": {"formats": ["nifti"], "stable_uids": False, "orientation": None},
        }
        assert work.outcome(job)["ended"] == "done"
        [bundle] = read_record(folder / "results" / RECORD).bundles
        digests.append(bundle.sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_packed_image_is_not_unpacked_to_see_how_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "image.nii.gz")
    monkeypatch.setattr("volseg.io.volume.read_image", lambda *_, **__: pytest.fail("unpacked"))
    _require_moderate([tmp_path / "image.nii.gz"], 192)
    with pytest.raises(InputError, match="192 voxels, more than this server takes"):
        _require_moderate([tmp_path / "image.nii.gz"], 191)
