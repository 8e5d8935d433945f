"""The memory of a training step: what autograd keeps, near what a step was measured to take."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from volseg.networks import build_network, count_parameters
from volseg.planning import step_memory

# Bytes that a process held more at the highest than before it built network, running mean, AdamW
# and loss, after two steps in float32, channels last: VmHWM on an AMD EPYC, two threads, torch
# 2.13.0+cpu, 2026-11-27. (network, patch, batch, options, channels, classes, measured)
SIX = (32, 64, 128, 256, 512, 512)
FLAT = {
    "kernel_sizes": [(3, 3, 1), *[(3, 3, 3)] * 4],
    "strides": [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1)],
}
MEASURED = [
    ("resencunet", (40, 56, 40), 2, {"channels": SIX[:4], "blocks": (1, 3, 4, 6)}, 1, 3, 1059e6),
    ("resencunet", (40, 56, 40), 9, {"channels": SIX[:4], "blocks": (1, 3, 4, 6)}, 1, 3, 2964e6),
    ("dynunet", (40, 56, 40), 9, {"channels": SIX[:4]}, 1, 3, 2110e6),
    ("dynunet", (96, 96, 96), 2, {"channels": (*SIX[:4], 320)}, 1, 3, 4492e6),
    (
        "resencunet",
        (64, 96, 96),
        2,
        {"channels": (*SIX[:4], 320), "blocks": (1, 3, 4, 6, 6)},
        2,
        14,
        4342e6,
    ),
    ("resencunet", (256, 256), 8, {"channels": SIX, "blocks": (1, 3, 4, 6, 6, 6)}, 1, 2, 4006e6),
    ("dynunet", (256, 256), 12, {"channels": SIX}, 3, 2, 3045e6),
    ("dynunet", (128, 128, 24), 2, {"channels": (*SIX[:4], 320), **FLAT}, 1, 3, 2582e6),
]


def dice_cross_entropy():
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)


def built(name, patch, options, channels, classes):
    return build_network(
        name,
        spatial_dims=len(patch),
        in_channels=channels,
        out_channels=classes,
        deep_supervision=True,
        **options,
    )


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_the_estimate_is_near_what_was_measured(row):
    name, patch, batch, options, channels, classes, measured = row
    with torch.device("meta"):
        network = built(name, patch, options, channels, classes)
        image = torch.empty(batch, channels, *patch)
    estimate = step_memory(network, dice_cross_entropy(), image)
    assert 0.95 < estimate.total / measured < 1.13
    assert estimate.weights == 20 * count_parameters(network)


@pytest.mark.parametrize("name", ["dynunet", "unet"])
def test_what_is_kept_is_what_a_real_step_keeps(name):
    options, patch = {"channels": (4, 8, 16)}, (16, 16, 8)
    network = built(name, patch, options, 1, 3).train()
    own = {value.untyped_storage().data_ptr() for value in network.parameters()}
    kept = {}

    def keep(value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        heads = network(torch.rand(2, 1, *patch))
        for head in heads:
            dice_cross_entropy()(head, torch.zeros(2, 1, *head.shape[2:]))
    with torch.device("meta"):
        nowhere, image = built(name, patch, options, 1, 3), torch.empty(2, 1, *patch)
    estimate = step_memory(nowhere, dice_cross_entropy(), image)
    # The image itself and small statistics may be kept by one of the two alone.
    assert estimate.kept == pytest.approx(sum(size for size, _ in kept.values()), rel=0.05)
