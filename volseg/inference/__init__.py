"""Inference: from a volume and any callable to logits on the same grid."""

from volseg.inference.sliding_window import SlidingWindowInferer
from volseg.inference.tiling import gaussian_weights, tile_starts

__all__ = ["SlidingWindowInferer", "gaussian_weights", "tile_starts"]
