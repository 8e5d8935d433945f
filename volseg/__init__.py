"""volseg: medical image segmentation in 2D and 3D.

The names below are loaded on first use, so that ``import volseg`` costs milliseconds and loads
neither torch nor MONAI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Segmenter": "volseg.segmenter",
    "read_image": "volseg.io",
    "write_image": "volseg.io",
    "write_segmentation": "volseg.io",
    "build_network": "volseg.networks",
    "list_networks": "volseg.networks",
}

__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 - the keys are the names

if TYPE_CHECKING:
    from volseg.io import read_image, write_image, write_segmentation
    from volseg.networks import build_network, list_networks
    from volseg.segmenter import Segmenter


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'volseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
