"""Checkpoints of a training run: every epoch, whole or not at all, and resumed from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import filelock
import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from volseg.atomic import replacing, writing_to
from volseg.errors import BundleError, InputError, OutputError, VolsegError
from volseg.networks import save_tensors, save_weights
from volseg.training.history import TrainingHistory
from volseg.training.run_settings import CHANGEABLE, differing_settings
from volseg.training.step import KEEP_FINITE

_log = logging.getLogger(__name__)

_LOCK = ".training.lock"


class Stateful(Protocol):
    """Anything with a state dictionary: networks, optimizers, draws."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over a state."""


class CheckpointEveryEpoch:
    """MONAI handler: writes ``checkpoint.pt``, ``model.pt`` and ``best.pt``, each epoch anew.

    ``checkpoint.pt`` holds what is needed to go on, ``model.pt`` the plain weights a bundle ships,
    ``best.pt`` those of the best validation. All are replaced atomically and the checkpoint last,
    so a run that is killed at any moment goes on from the last epoch that it tells of. Weights that
    are not finite end the training and are not written. Attach it last: it keeps what the other
    handlers have come to. One process trains in a folder at a time.

    Args:
        folder: Where the files go.
        objects: What to keep, by name.
        weights: The network whose weights are written (a running mean, for example).
        history: What says which epoch is the best; kept, too.
        settings: Of the run: one with others does not go on from this one's checkpoint, but for
            those in `CHANGEABLE`.
        final: Which weights ``model.pt`` has in the end, ``last`` or ``best``.
        resume: Go on from ``checkpoint.pt`` if it is there; otherwise it becomes
            ``checkpoint_before.pt`` at the start, which is never gone on from.
    """

    CHECKPOINT = "checkpoint.pt"
    SET_ASIDE = "checkpoint_before.pt"
    WEIGHTS = "model.pt"
    BEST = "best.pt"

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Stateful],
        weights: nn.Module,
        *,
        history: TrainingHistory,
        settings: Mapping[str, Any] | None = None,
        final: str = "last",
        resume: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.objects = {**objects, "history": history}
        self.weights = weights
        self.history = history
        self.settings = dict(settings or {})
        self.final = final
        self.resume = resume
        self._cases: list[str] = []
        # Taken by this process as often as it wants; the system gives it back when it ends.
        self._lock = filelock.FileLock(self.folder / _LOCK, is_singleton=True)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @property
    def checkpoint(self) -> Path:
        """The file a run goes on from."""
        return self.folder / self.CHECKPOINT

    def _start(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            self._take_folder()
            if not self.resume and self.checkpoint.is_file():
                self._set_aside()
        self._cases = _case_names(engine)
        if self.resume and self.checkpoint.is_file():
            self._load(engine)

    def _take_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise OutputError(
                f"another process is training into {self.folder}: wait for it, or choose another "
                "output folder."
            ) from error
        except NotImplementedError:  # a network file system without locks
            _log.info("%s is on a file system that cannot be locked", self.folder)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written to: {error}.") from error
        for left in self.folder.glob(".volseg-*"):  # by a process that was killed as it wrote
            left.unlink(missing_ok=True)

    def _set_aside(self) -> None:
        """Keep a run that is killed early from being taken for the one that was here before."""
        with writing_to(self.folder / self.SET_ASIDE):
            self.checkpoint.replace(self.folder / self.SET_ASIDE)
        _log.info("the checkpoint of the run before is now %s", self.folder / self.SET_ASIDE)

    def _save(self, engine: Engine) -> None:
        self._require_finite_weights(engine)
        if idist.get_rank() != 0:
            return
        best = self.history.best
        if best is not None and best[0] == engine.state.epoch:
            save_weights(self.weights, self.folder / self.BEST)
        save_weights(self.weights, self.folder / self.WEIGHTS)
        state = {
            "objects": {name: value.state_dict() for name, value in self.objects.items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "finished": engine.should_terminate or engine.state.epoch == engine.state.max_epochs,
            "settings": self.settings,
            "cases": self._cases,
            "epoch_length": engine.state.epoch_length,
        }
        save_tensors(state, self.checkpoint)

    def _load(self, engine: Engine) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            finished = bool(state["finished"])
            self._require_same_settings(state["settings"], finished=finished)
            self._require_same_cases(state, engine)
            for name, value in self.objects.items():
                value.load_state_dict(state["objects"][name])
            engine.state.epoch = state["epoch"]
            engine.state.iteration = state["iteration"]
        except VolsegError:
            raise
        except Exception as error:
            raise BundleError(
                f"training cannot go on from {self.checkpoint} ({type(error).__name__}: {error}): "
                "it is damaged or belongs to another configuration; move it away to start anew."
            ) from error
        if finished:
            _log.info("%s is of a training that is finished", self.checkpoint)
            engine.terminate()
        else:
            _log.info("going on after epoch %d of %s", engine.state.epoch, self.checkpoint)

    def _finish(self) -> None:
        best = self.folder / self.BEST
        if idist.get_rank() == 0 and self.final == "best" and best.is_file():
            with replacing(self.folder / self.WEIGHTS) as temporary:
                shutil.copyfile(best, temporary)

    def _require_same_settings(self, before: Mapping[str, Any], *, finished: bool) -> None:
        differing = differing_settings(before, self.settings)
        refused = [what for name, what in differing.items() if finished or name not in CHANGEABLE]
        if refused:
            raise BundleError(
                f"{self.checkpoint} is of a {'finished ' if finished else ''}run with other "
                f"settings ({'; '.join(refused)}): give those again, or train anew into another "
                "folder, or here with --set resume=false, once."
            )
        if differing:
            _log.info("going on with other settings: %s", "; ".join(differing.values()))

    def _require_same_cases(self, before: Mapping[str, Any], engine: Engine) -> None:
        if "cases" not in before:  # written by an earlier version
            return
        cases, steps = before["cases"], before["epoch_length"]
        if (cases, steps) == (self._cases, engine.state.epoch_length):
            return
        pairs = enumerate(zip_longest(cases, self._cases, fillvalue="none"), start=1)
        other = (f" (number {n} was {old} and is {new})" for n, (old, new) in pairs if old != new)
        raise BundleError(
            f"{self.checkpoint} is of a run on {len(cases)} training cases, {steps} steps an "
            f"epoch, and now they are {len(self._cases)}, {engine.state.epoch_length} steps"
            f"{next(other, '')}: put the list of cases back as it was, or train into another "
            "folder."
        )

    def _require_finite_weights(self, engine: Engine) -> None:
        networks = [one for one in self.objects.values() if isinstance(one, nn.Module)]
        weights = [
            (name, value)
            for network in (*networks, self.weights)
            for name, value in network.state_dict().items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        ]
        # Read at once: an accelerator would wait for each of them.
        finite = torch.stack([torch.isfinite(value).all() for _, value in weights]).tolist()
        if not all(finite):
            name, _ = weights[finite.index(False)]
            raise InputError(
                f"the weights of epoch {engine.state.epoch} are not finite, {name} first; expected "
                f"numbers: {KEEP_FINITE}."
            )


def _case_names(engine: Engine) -> list[str]:
    """Return the names of what a trainer draws from, in order, where cases have names."""
    dataset = getattr(engine.state.dataloader, "dataset", None)
    cases = getattr(dataset, "data", ())
    return [str(case["case"]) for case in cases if isinstance(case, Mapping) and "case" in case]
