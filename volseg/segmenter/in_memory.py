"""The way of bundles whose transforms need the whole volume at once: MONAI's, step by step."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor

from volseg.bundle import BundleParts
from volseg.inference import SlidingWindowInferer
from volseg.io import on_source_grid
from volseg.segmenter.streamed import Cancelling, Progress


def run_in_memory(
    parts: BundleParts,
    image: MetaTensor,
    device: torch.device,
    *,
    progress: Progress | None = None,
    cancelled: Cancelling | None = None,
) -> MetaTensor:
    """Return the label map ``(1, x, y, z)`` of an image, on its grid.

    Args:
        parts: The bundle's, its network on ``device``.
        image: ``(channels, x, y, z)``.
        device: Where the network computes.
        progress: Called as ``progress(done, total)`` with tiles, if the bundle's inferer is ours.
        cancelled: Asked between tiles, likewise.
    """
    case = parts.preprocessing({"image": image})
    calls: dict[str, Any] = {}
    if isinstance(parts.inferer, SlidingWindowInferer):
        calls = {"progress": progress, "cancelled": cancelled}
    with torch.inference_mode():
        batch = case["image"].to(device).unsqueeze(0)
        logits = parts.inferer(batch, parts.network, **calls)[0]
    pred = MetaTensor(torch.as_tensor(logits).cpu()).copy_meta_from(case["image"])
    labels = parts.postprocessing({**case, "pred": pred})["pred"]
    return on_source_grid(labels, image)
