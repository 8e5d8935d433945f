"""One training by many processes, on one machine or several, that gives what one process gives.

``torchrun`` starts the processes; each sees its own device and takes its share of every batch
(`volseg.data.SharedBatches`). Losses and the statistics of batch normalisation are made of sums
over all processes (`volseg.processes`), and so every process computes the gradient of the whole
batch's loss that comes of its share; the mean over processes is that gradient. All then make the
same step, and the weights stay the same everywhere. The first process alone writes files.

Gradients are averaged after the backward pass, in pieces that are on their way while others are
put together. `torch.nn.parallel.DistributedDataParallel` sends them during it, but wraps the
network, which checkpoints, running means, recomputing and compiling would have to know.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, distributed, nn

from volseg.errors import InputError, VolsegError
from volseg.processes import (
    Meeting,
    is_idle,
    launched_count,
    process_count,
    process_rank,
    set_idle,
)
from volseg.segmenter import choose_device
from volseg.training.batch_statistics import synchronise_batch_norm

Item = TypeVar("Item")

# A process may be slower than the others by as long: in validation, or as it writes. What is done
# with a whole data set takes longer, and is waited for at a `Meeting`.
_PATIENCE = timedelta(minutes=30)
_PIECE = 1 << 23  # numbers that are averaged at once


class Batches(Protocol):
    """The batches of an epoch, as `volseg.data.SharedBatches`."""

    def is_counted(self, index: int) -> bool:
        """Return whether a batch has a share for this process."""


def training_device() -> torch.device:
    """Return where this process trains: on a CUDA device of its own, or else on the CPU.

    Raises:
        InputError: There are more processes on this machine than it has CUDA devices.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    own, number = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= number:
        raise InputError(
            f"there are {number} CUDA devices for the {own + 1} or more processes of this machine; "
            "expected at most one process a device: start fewer, or train with --device cpu."
        )
    return torch.device("cuda", own)


def join_processes(device: str | torch.device) -> None:
    """Meet the other processes that ``torchrun`` started, if it did and they have not met.

    Processes on CUDA devices talk through NCCL, others through Gloo.

    Args:
        device: Where this process trains.

    Raises:
        VolsegError: The others cannot be reached.
    """
    if process_count() > 1 or launched_count() == 1:
        return
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # ignite prefers what SLURM says, which knows of one task where torchrun starts many processes.
    slurm = {name: os.environ.pop(name) for name in ("SLURM_JOB_ID",) if name in os.environ}
    try:
        idist.initialize("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    except Exception as error:
        raise VolsegError(
            f"the other processes cannot be reached at {os.environ.get('MASTER_ADDR')} "
            f"({type(error).__name__}: {error}): look at the address that torchrun was given."
        ) from error
    finally:
        os.environ.update(slurm)
    atexit.register(leave_processes)


def leave_processes() -> None:
    """Part from the other processes, if there are any."""
    if process_count() > 1:
        idist.finalize()


def share_of_process(items: Sequence[Item]) -> list[Item]:
    """Return every ``n``-th item, of ``n`` processes; all where there are fewer items than these.

    A mean over the items of all processes is the same in either way.
    """
    count = process_count()
    return list(items) if len(items) < count else list(items[process_rank() :: count])


@contextmanager
def processes_together(device: str | None) -> Iterator[torch.device]:
    """Train with the processes that ``torchrun`` started beside this one, if it did.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; `training_device` by default, and for
            ``auto`` and ``cuda``.

    Yields:
        Where this process trains.

    Raises:
        InputError: The device is unknown or not there, or there are more processes on this machine
            than it has CUDA devices.
        VolsegError: The others cannot be reached, or one has ended.
    """
    if device is None or device == "auto" or (device == "cuda" and torch.cuda.is_available()):
        where = training_device()
    else:
        where = choose_device(device)
    join_processes(where)
    with _saying_that_others_ended():
        yield where
    leave_processes()


@contextmanager
def first_process_first() -> Iterator[bool]:
    """Enter in the first process, and in the others when it has left; true in the first.

    For what is written once, in some minutes, and read by all.
    """
    first = process_rank() == 0
    if not first:
        distributed.barrier()
    yield first
    if first and process_count() > 1:
        distributed.barrier()


@contextmanager
def _saying_that_others_ended() -> Iterator[None]:
    """Say in a sentence that another process has gone, where this one waits for it in vain."""
    try:
        yield
    except RuntimeError as error:
        if process_count() == 1 or not _is_of_communication(error):
            raise
        raise VolsegError(
            f"process {process_rank()} of {process_count()} stops, as another has ended or cannot "
            "be reached: see what that one says. The last checkpoint is whole; the same command "
            "goes on from there."
        ) from error


def _is_of_communication(error: BaseException | None) -> bool:
    while error is not None:
        words = str(error).lower()
        if isinstance(error, distributed.DistError) or "gloo" in words or "nccl" in words:
            return True
        error = error.__cause__
    return False


class TrainTogether:
    """MONAI handler: makes the steps of all processes one; nothing to do in a single process.

    Attach it last: behind what loads a checkpoint, and what counts the patches of a step.

    Args:
        batches: What the trainer iterates over.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._meeting = Meeting()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if process_count() == 1:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin_step)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._share_gradients)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)

    def _start(self, engine: Engine) -> None:
        synchronise_batch_norm(engine.network)
        weights = sum(value.detach().double().abs().sum().cpu() for value in _values(engine))
        # The first is late where it reads all data to describe them (`RecordRun`).
        found = self._meeting.gather((engine.state.epoch, float(weights)))
        if any(one != found[0] for one in found):
            raise InputError(
                f"the processes begin after the epochs {[epoch for epoch, _ in found]}"
                " with weights that are not the same; expected the same everywhere: the output "
                "folder has to be on a file system that all machines share, and their versions of "
                "volseg and torch the same."
            )

    def _begin_step(self, engine: Engine) -> None:
        assert engine.state.epoch_length is not None
        index = (engine.state.iteration - 1) % engine.state.epoch_length
        set_idle(not self.batches.is_counted(index))

    def _end_step(self) -> None:
        set_idle(False)

    def _share_gradients(self, engine: Engine) -> None:
        average_gradients(engine.network.parameters())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of this process by the mean over all, where an idle one counts as 0."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    sent = []
    for piece in _pieces(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in piece])
        if is_idle():
            flat.zero_()
        sent.append((piece, flat, distributed.all_reduce(flat, async_op=True)))
    for piece, flat, work in sent:
        work.wait()
        flat.div_(process_count())
        for gradient, mean in zip(piece, flat.split([g.numel() for g in piece]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


def _pieces(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the gradients in groups of one type and of a size that is worth sending."""
    piece: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if piece and (size + gradient.numel() > _PIECE or piece[0].dtype != gradient.dtype):
            yield piece
            piece, size = [], 0
        piece.append(gradient)
        size += gradient.numel()
    if piece:
        yield piece


def _values(engine: Engine) -> Iterator[Tensor]:
    network: nn.Module = engine.network
    yield from network.parameters()
    yield from network.buffers()
