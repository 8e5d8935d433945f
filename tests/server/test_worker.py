"""The process of a server that computes, job by job."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from volseg.errors import InputError, MemoryLimitError
from volseg.segmenter import CaseRecord, Segmenter, read_record, segment_to_files
from volseg.server.jobs import RECORD
from volseg.server.worker import Work, require_moderate

SETUP = {"device": "cpu", "memory": None, "most_bytes": 10**9}


def job_in(folder: Path, bundle: Path) -> dict[str, Any]:
    """A job in a folder of its own, and its image there."""
    folder.mkdir()
    shutil.copy(bundle.parent / "data" / "images" / "ball0.nii.gz", folder)
    return {
        "folder": str(folder),
        "bundle": str(bundle),
        "inputs": {"image": "ball0.nii.gz"},
        "reference": None,
        "contiguous": False,
        "options": {"formats": ["nifti"], "stable_uids": False, "orientation": None},
    }


def test_a_bundle_is_loaded_anew_once_its_configurations_changed(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    work = Work(SETUP, lambda _: None, lambda: False)
    digests = []
    for name in ("first", "same", "changed"):
        if name == "changed":  # as a choice of rules or of tiles changes it, but not the weights
            config = tiny_bundle / "configs" / "inference.yaml"
            config.write_text(config.read_text() + "\n")
        assert work.outcome(job_in(tmp_path / name, tiny_bundle))["ended"] == "done"
        [bundle] = read_record(tmp_path / name / "results" / RECORD).bundles
        digests.append(bundle.sha256)
    assert digests[0] == digests[1] != digests[2]


def test_no_job_is_refused_for_the_networks_of_those_before_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are held only as long as memory suffices."""
    other = shutil.copytree(tiny_bundle, tmp_path / "other_bundle")
    held: weakref.WeakSet[Segmenter] = weakref.WeakSet()

    def with_room_for_one(segmenter: Segmenter, *given: Any, **options: Any) -> CaseRecord:
        held.add(segmenter)
        if len(held) > 1:
            raise MemoryLimitError("two networks are held.")
        return segment_to_files(segmenter, *given, **options)

    def without_room(*_: Any, **__: Any) -> CaseRecord:
        raise MemoryLimitError("the image is too large.")

    work = Work(SETUP, lambda _: None, lambda: False)
    monkeypatch.setattr("volseg.segmenter.segment_to_files", with_room_for_one)
    assert work.outcome(job_in(tmp_path / "first", tiny_bundle))["ended"] == "done"
    assert work.outcome(job_in(tmp_path / "second", other))["ended"] == "done"
    monkeypatch.setattr("volseg.segmenter.segment_to_files", without_room)
    refused = work.outcome(job_in(tmp_path / "third", tiny_bundle))
    assert refused == {"ended": "failed", "error": "the image is too large."}


def test_a_packed_image_is_not_unpacked_to_see_how_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "image.nii.gz")
    monkeypatch.setattr("volseg.io.volume.read_image", lambda *_, **__: pytest.fail("unpacked"))
    require_moderate([tmp_path / "image.nii.gz"], 192)
    with pytest.raises(InputError, match="192 voxels, more than this server takes"):
        require_moderate([tmp_path / "image.nii.gz"], 191)
