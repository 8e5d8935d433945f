"""volseg: medical image segmentation in 2D and 3D.

The names below are loaded on first use, so that ``import volseg`` costs milliseconds and loads
neither torch nor MONAI.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from volseg.on_use import loaded_on_use

__version__ = "0.1.0"

# Where MLflow is installed, MONAI imports it, and it reports what it is used for over the network.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

if TYPE_CHECKING:
    from volseg.io import read_image, write_image, write_segmentation
    from volseg.networks import build_network, list_networks
    from volseg.segmenter import Segmenter

__all__ = [
    "Segmenter",
    "__version__",
    "build_network",
    "list_networks",
    "read_image",
    "write_image",
    "write_segmentation",
]

__getattr__ = loaded_on_use(__name__)


def __dir__() -> list[str]:
    return sorted(__all__)
