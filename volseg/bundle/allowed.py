"""What a bundle may name in the sections that volseg builds without asking.

MONAI's configuration language calls anything importable and evaluates any ``$`` expression. A
bundle can come from anyone, so volseg builds only components on this list: each takes plain
values, opens no network connection and runs no code it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from volseg.errors import BundleError

_MONAI_TRANSFORMS = (
    "Activationsd AsDiscreted CastToTyped Compose CropForegroundd DivisiblePadd "
    "EnsureChannelFirstd EnsureTyped FillHolesd Identityd Invertd KeepLargestConnectedComponentd "
    "MapLabelValued NormalizeIntensityd Orientationd RemoveSmallObjectsd ResizeWithPadOrCropd "
    "Resized ScaleIntensityd ScaleIntensityRanged ScaleIntensityRangePercentilesd Spacingd "
    "SpatialPadd"
)
_MONAI_NETWORKS = (
    "AttentionUnet BasicUNet BasicUNetPlusPlus DynUNet SegResNet SegResNetDS SwinUNETR UNETR UNet "
    "VNet"
)

ALLOWED_TARGETS = frozenset(
    {
        *(f"monai.transforms.{name}" for name in _MONAI_TRANSFORMS.split()),
        *(f"monai.networks.nets.{name}" for name in _MONAI_NETWORKS.split()),
        "monai.inferers.SimpleInferer",
        "monai.inferers.SlidingWindowInferer",
        "volseg.inference.LabelOnSourceGridd",
        "volseg.inference.SlidingWindowInferer",
        "volseg.io.ReadImaged",
        "volseg.networks.NetworkEnsemble",
        "volseg.networks.build_network",
        "volseg.postprocess.FillHolesd",
        "volseg.postprocess.KeepLargestd",
        "volseg.postprocess.PostprocessLabelsd",
        "volseg.postprocess.RemoveSmallComponentsd",
        "volseg.transforms.BorderWeightMapd",
        "volseg.transforms.CorrectBiasFieldd",
        "volseg.transforms.Regridd",
        "volseg.transforms.StandardizeIntensityd",
    }
)


def require_allowed(content: Any, where: str) -> Iterator[str]:
    """Check a section of a configuration; yield the names of the sections it refers to.

    Args:
        content: Parsed YAML or JSON.
        where: File and section, for messages.

    Raises:
        BundleError: It holds an expression, a macro or a target that is not on the list.
    """
    if isinstance(content, dict):
        target = content.get("_target_")
        if target is not None and target not in ALLOWED_TARGETS:
            raise BundleError(
                f"{where} asks to call {target!r}, which is not on volseg's list of safe "
                "components: if you trust the bundle's author, allow its code explicitly "
                "(trust_code=True, or --trust-code on the command line)."
            )
        if content.get("_mode_", "default") != "default":
            raise BundleError(f"{where} uses _mode_ {content['_mode_']!r}, which is not allowed.")
        for key, value in content.items():
            yield from require_allowed(value, f"{where}::{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from require_allowed(value, f"{where}::{index}")
    elif isinstance(content, str):
        if content.startswith(("$", "%")):
            raise BundleError(
                f"{where} holds {content!r}, which would be executed or read from another file: "
                "if you trust the bundle's author, allow its code explicitly (trust_code=True, or "
                "--trust-code on the command line)."
            )
        if content.startswith("@"):
            name = content[1:].replace("#", "::").split("::")[0]
            if not name:
                raise BundleError(
                    f"{where} holds the relative reference {content!r}: name the section in full."
                )
            yield name
