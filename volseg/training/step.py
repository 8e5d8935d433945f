"""One step of training: forward, loss, backward and the optimizer, for MONAI's trainer."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from volseg.errors import InputError, UnknownNameError
from volseg.processes import (
    is_idle,
    process_count,
    process_rank,
    set_idle,
    sum_over_processes,
)

PRECISIONS = ("auto", "f32", "bf16", "f16")
#: What helps where something is no longer a number.
KEEP_FINITE = (
    "go on from the last checkpoint with a lower learning_rate, a clip_norm such as 12, or "
    "train_precision f32"
)
_REDUCED = {"bf16": torch.bfloat16, "f16": torch.float16}


class TrainingStep:
    """What ``SupervisedTrainer(iteration_update=...)`` does with a batch.

    Its state is that of the scaling that keeps small gradients from vanishing in f16: keep it in
    the checkpoint.

    Args:
        precision: Of the forward pass; weights, losses and sums stay in f32. ``bf16`` is for
            processors that compute in it, ``f16`` for accelerators. ``auto`` is f32 on a CPU and,
            on an accelerator, bf16 where it has it and else f16.
        parts: The batch is computed in so many parts, one after another, and their gradients are
            added up: the memory of a part for the step of a batch. Statistics over a batch, such
            as those of a batch's Dice, are then over a part. Parts are of the whole batch,
            however many processes share it.
        clip_norm: Gradients with a larger norm, all of them together, are made that short.
        device: Where training happens.

    Raises:
        UnknownNameError: No such precision.
        InputError: The processor lacks the precision, or a number is out of its range.
    """

    def __init__(
        self,
        *,
        precision: str = "auto",
        parts: int = 1,
        clip_norm: float | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if parts < 1 or (clip_norm is not None and not clip_norm > 0):
            raise InputError(
                f"the batch has {parts} parts and the gradient's largest norm is {clip_norm}; "
                "expected at least one part, and a norm above 0 or none."
            )
        self.device = torch.device(device)
        self.dtype = _REDUCED.get(training_precision(precision, self.device))
        self.parts = parts
        self.clip_norm = clip_norm
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def __call__(self, engine: SupervisedTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Take a step and return image, label, logits and loss.

        With several parts, the logits are those of the last and the loss is the mean.

        Raises:
            InputError: The loss, or the norm of the gradient where that is clipped, is not finite;
                the weights are those of before.
        """
        image, label = engine.prepare_batch(
            batch, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        output = {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}
        engine.state.output = output
        network, optimizer = engine.network, engine.optimizer
        network.train()
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for share, part_of_image, part_of_label in self._parts(image, label):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                logits = engine.inferer(part_of_image, network)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            # Losses compute in full precision, whatever the logits are in.
            loss = engine.loss_function(logits, part_of_label).mean() * share
            output[CommonKeys.PRED], output[CommonKeys.LOSS] = logits, loss
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
            _require_finite("loss", loss, engine, batch)
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        output[CommonKeys.LOSS] = torch.stack(losses).sum()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self.clip_norm is not None:
            self.scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)
            if not self.scaler.is_enabled():  # which leaves out such a step, and scales less
                _require_finite("norm of the gradient", norm, engine, batch)
        self.scaler.step(optimizer)
        self.scaler.update()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def state_dict(self) -> dict[str, Any]:
        """Return the scaling."""
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a scaling; one of another precision is left out."""
        if state_dict and self.scaler.is_enabled():
            self.scaler.load_state_dict(state_dict)

    def _parts(self, image: Tensor, label: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yield what this process has of each part of the whole batch, and the part's share of it.

        A process without any of a part has a stand-in, and is idle.
        """
        if self.parts == 1:
            yield 1.0, image, label
            return
        idle = is_idle()
        places, number = _places_in_batch(image)
        size = math.ceil(number / self.parts)
        for start in range(0, number, size):
            end = min(start + size, number)
            first, last = (bisect_left(places, place) for place in (start, end))
            set_idle(idle or first == last)
            some = slice(0, 1) if first == last else slice(first, last)
            yield (end - start) / number, image[some], label[some]
        set_idle(idle)


def _places_in_batch(images: Tensor) -> tuple[list[int], int]:
    """Return where the images of this process are in the whole batch, and how many that has.

    The processes take turns, as in `volseg.data.SharedBatches`.
    """
    rank = process_rank()
    lengths = images.new_zeros(process_count(), dtype=torch.float32)
    lengths[rank] = len(images)
    counts = [int(length) for length in sum_over_processes(lengths).tolist()]
    places = [
        sum(min(count, turn + (other < rank)) for other, count in enumerate(counts))
        for turn in range(len(images))
    ]
    return places, sum(counts)


def training_precision(precision: str, device: torch.device) -> str:
    """Return the precision that is meant on a device, if it has it.

    Raises:
        UnknownNameError: No such precision.
        InputError: The processor does not compute in it.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if device.type == "cpu":
        if precision == "f16":
            raise InputError(
                "training in f16 on a CPU is too coarse; expected f32, or bf16 where the "
                "processor has it: set precision to auto."
            )
        # A processor without it converts every number there and back, and is slower than in f32.
        if precision == "bf16" and not torch.cpu.get_capabilities().get("avx512_bf16"):
            raise InputError(
                "this processor does not compute in bf16 (it lacks AVX512-BF16); training in it "
                "would be slower than in f32: set precision to auto or f32."
            )
        return "f32" if precision == "auto" else precision
    if precision == "auto":
        has_it = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_it else "f16"
    return precision


def _require_finite(what: str, value: Tensor, engine: Engine, batch: Mapping[str, Any]) -> None:
    if torch.isfinite(value):
        return
    names = batch.get("case")
    cases = ", ".join(map(str, names)) if isinstance(names, Sequence) else "unknown"
    step = (engine.state.iteration - 1) % (engine.state.epoch_length or 1) + 1
    raise InputError(
        f"the {what} is {value.item():g} in epoch {engine.state.epoch}, step {step}, of the cases "
        f"{cases}; expected a number: look at the values of their images, or {KEEP_FINITE}."
    )
