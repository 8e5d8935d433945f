"""Checkpoints of a training run: every epoch, whole or not at all, and resumed from."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from torch import nn

from volseg.atomic import replacing
from volseg.errors import BundleError, VolsegError
from volseg.networks import save_weights

_log = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything with a state dictionary: networks, optimizers, schedulers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over a state."""


class CheckpointEveryEpoch:
    """MONAI handler: writes ``checkpoint.pt`` and ``model.pt`` after every epoch.

    ``checkpoint.pt`` holds what is needed to go on, ``model.pt`` the plain weights a bundle
    ships. Both are replaced atomically, so a killed run can always go on from its last epoch.

    Args:
        folder: Where the two files go.
        objects: What to keep, by name.
        weights: The network whose weights go to ``model.pt`` (a running mean, for example).
        resume: Go on from ``checkpoint.pt`` if it is there.
    """

    CHECKPOINT = "checkpoint.pt"
    WEIGHTS = "model.pt"

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Stateful],
        weights: nn.Module,
        *,
        resume: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.objects = dict(objects)
        self.weights = weights
        self.resume = resume
        self._seconds = 0.0
        self._since = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    @property
    def checkpoint(self) -> Path:
        """The file a run goes on from."""
        return self.folder / self.CHECKPOINT

    def _save(self, engine: Engine) -> None:
        state = {
            "objects": {name: value.state_dict() for name, value in self.objects.items()},
            "epoch": engine.state.epoch,
            "epochs": engine.state.max_epochs,
            "iteration": engine.state.iteration,
            "random": torch.get_rng_state(),
            "seconds": self._seconds + time.monotonic() - self._since,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)
        save_weights(self.weights, self.folder / self.WEIGHTS)

    def _load(self, engine: Engine) -> None:
        self._since = time.monotonic()
        if not (self.resume and self.checkpoint.is_file()):
            return
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self._require_same_length(int(state["epochs"]), engine)
            for name, value in self.objects.items():
                value.load_state_dict(state["objects"][name])
            torch.set_rng_state(state["random"])
            self._seconds = float(state["seconds"])
            engine.state.epoch = state["epoch"]
            engine.state.iteration = state["iteration"]
        except VolsegError:
            raise
        except Exception as error:
            raise BundleError(
                f"training cannot go on from {self.checkpoint} ({type(error).__name__}: {error}): "
                "it is damaged or belongs to another configuration; move it away to start anew."
            ) from error
        if engine.state.epoch == engine.state.max_epochs:
            # The run may have been killed between the two files of its last epoch.
            save_weights(self.weights, self.folder / self.WEIGHTS)
        _log.info("going on after epoch %d of %s", engine.state.epoch, self.checkpoint)

    def _require_same_length(self, epochs: int, engine: Engine) -> None:
        if epochs != engine.state.max_epochs:
            raise BundleError(
                f"{self.checkpoint} is of a run of {epochs} epochs, but {engine.state.max_epochs} "
                "were asked for, and the learning rate follows a plan for all of them: ask for "
                f"{epochs}, or train anew into another folder."
            )
