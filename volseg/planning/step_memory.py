"""How much memory a training step takes, found without computing it.

The network runs on torch's ``meta`` device, where tensors have shapes and no values, and what
autograd would keep for the way back is added up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import yaml
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from volseg.bundle import Composition, compose
from volseg.job_limits import memory_of_job
from volseg.networks import count_parameters

_FLOAT = 4
# The weights, their gradients, two moments of AdamW, and the running mean of the weights.
_COPIES_OF_WEIGHTS = 5
# Of the largest tensor that is kept: gradients on their way, and the convolutions' own copies.
# Measured on the CPU with the networks that are planned, see the README.
_TENSORS_AT_WORK = 3
# Of a device: the rest is left to what else runs on it, data and libraries.
_USABLE_SHARE = 0.8


@dataclass(frozen=True)
class StepMemory:
    """What a training step holds, in bytes, beyond libraries and data.

    Attributes:
        weights: Weights, gradients, the state of the optimiser, the running mean.
        kept: What the way forward keeps for the way back.
        working: What is held for a moment.
    """

    weights: int
    kept: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kept + self.working


def step_memory(
    network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], image: Tensor
) -> StepMemory:
    """Return what a step of AdamW in float32 holds.

    Args:
        network: On the ``meta`` device; it is put into training mode.
        loss: Of one head.
        image: A batch ``(patches, channels, ...)`` on the ``meta`` device.
    """
    own = {StorageWeakRef(value.untyped_storage()) for value in network.parameters()}
    sizes: dict[StorageWeakRef, int] = {}
    alive = []  # storages that end would give their place to others

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference not in own and reference not in sizes:
            sizes[reference] = storage.nbytes()
            alive.append(storage)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        heads = network.train()(image)
        for head in heads if isinstance(heads, list) else [heads]:
            target = torch.empty(len(head), 1, *head.shape[2:], device="meta")
            loss(head, target)
    return StepMemory(
        weights=_COPIES_OF_WEIGHTS * _FLOAT * count_parameters(network),
        kept=sum(sizes.values()),
        working=_TENSORS_AT_WORK * max(sizes.values()),
    )


def composed_step_memory(composition: Composition) -> StepMemory:
    """Return what a training step of the bundle takes that a composition makes."""
    parser = ConfigParser(yaml.safe_load(compose(composition)["train.yaml"]))
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
        image = torch.empty(parser["batch_size"], parser["in_channels"], *parser["patch"])
    return step_memory(network, parser.get_parsed_content("head_loss"), image)


def usable_memory(device: torch.device) -> int:
    """Return how many bytes a training step may take on a device."""
    if device.type == "cuda":
        return int(_USABLE_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return int(_USABLE_SHARE * memory_of_job())
