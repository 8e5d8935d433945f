"""Training on a server, without HTTP."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from volseg.bundle import open_bundle
from volseg.server.datastore import Datastore
from volseg.server.training import Trainer


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
