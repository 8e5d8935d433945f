"""Load a bundle once, segment many volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from volseg.bundle import build_parts, open_bundle
from volseg.errors import InputError, ShapeError
from volseg.inference import SlidingWindowInferer
from volseg.io import as_image, on_source_grid


class Segmenter:
    """A bundle, ready to segment.

    Args:
        bundle: Name of a shipped bundle or a bundle folder.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: Execute the code that the bundle's configuration may hold; only for bundles
            whose author you trust.

    Raises:
        InputError: The bundle does not exist, is damaged or unsafe, or the device is not there.

    Example:
        >>> segmenter = Segmenter("hippocampus_unet")  # doctest: +SKIP
        >>> labels = segmenter.segment("case.nii.gz")  # doctest: +SKIP
    """

    def __init__(
        self, bundle: str | Path, *, device: str = "auto", trust_code: bool = False
    ) -> None:
        self.bundle = open_bundle(bundle)
        self.device = choose_device(device)
        parts = build_parts(self.bundle, trust_code=trust_code)
        self._network = parts.network.to(self.device)
        self._preprocessing = parts.preprocessing
        self._inferer = parts.inferer
        self._postprocessing = parts.postprocessing

    @property
    def labels(self) -> dict[str, int]:
        """Label values by class name, background left out."""
        return self.bundle.labels

    def segment(
        self,
        image: Any,
        affine: Any = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> MetaTensor:
        """Return the label map ``(1, x, y, z)``, uint8, on exactly the grid of ``image``.

        Args:
            image: A path (file or DICOM folder), a `MetaTensor` ``(channels, x, y, z)`` with its
                RAS+ affine, a SimpleITK image, or an array together with ``affine``.
            affine: RAS+ affine in mm of an array; only for arrays.
            progress: Called as ``progress(done, total)`` with tiles.
            cancelled: Asked between tiles; ``True`` stops with `Cancelled`.

        Raises:
            InputError: The image cannot be read or its geometry is unusable.
            ShapeError: The number of channels or of axes is not the bundle's.
            Cancelled: ``cancelled()`` was true.
        """
        source = as_image(image, affine)
        self._require_suitable(source)
        case = self._preprocessing({"image": source})
        calls: dict[str, Any] = {}
        if isinstance(self._inferer, SlidingWindowInferer):
            calls = {"progress": progress, "cancelled": cancelled}
        with torch.inference_mode():
            batch = case["image"].to(self.device).unsqueeze(0)
            logits = self._inferer(batch, self._network, **calls)[0]
        pred = MetaTensor(torch.as_tensor(logits).cpu()).copy_meta_from(case["image"])
        labels = self._postprocessing({**case, "pred": pred})["pred"]
        return on_source_grid(labels, source)

    def _require_suitable(self, image: Any) -> None:
        name = image.meta.get("filename_or_obj") or "the image"
        found = (image.shape[0], image.ndim - 1)
        expected = (self.bundle.in_channels, self.bundle.spatial_dims)
        if found != expected:
            raise ShapeError(
                f"{name} has {found[0]} channels in {found[1]}D, but the bundle "
                f"{self.bundle.name} takes {expected[0]} in {expected[1]}D: give it such images, "
                "or choose another bundle."
            )


def choose_device(device: str) -> torch.device:
    """Return the torch device called ``device``; ``auto`` takes a GPU if there is one.

    Raises:
        InputError: Unknown, or not present on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"the device {device!r} is not there: use --device cpu.")
    return chosen
