"""Inference: from a volume and any callable to labels on the source grid, in bounded memory.

`segment_volume` does the whole; its two halves are `stream_logits` (tiles to slabs of blended
logits) and `restore_slabs` (slabs to labels on the source grid). `SlidingWindowInferer` is the
first half for MONAI, in memory.
"""

from volseg.inference.cropping import Box, CroppedSource, box_on_source, targets_in_box
from volseg.inference.decision import Decision
from volseg.inference.footprint import Footprint, restoring_bytes, stream_footprint
from volseg.inference.label_on_source import LabelOnSourceGridd
from volseg.inference.preparing import Preparation, PreparedVolume, prepare_volume
from volseg.inference.receptive_field import ReceptiveField, measure_receptive_field
from volseg.inference.restoring import Target, Targets, restore_slabs
from volseg.inference.segmenting import segment_volume
from volseg.inference.sliding_window import SlidingWindowInferer
from volseg.inference.source import ArraySource, SlabSource, TensorSource
from volseg.inference.spooled_array import SpooledArray
from volseg.inference.streaming import Slab, stream_logits
from volseg.inference.tiling import Tiling, gaussian_weights

__all__ = [
    "ArraySource",
    "Box",
    "CroppedSource",
    "Decision",
    "Footprint",
    "LabelOnSourceGridd",
    "Preparation",
    "PreparedVolume",
    "ReceptiveField",
    "Slab",
    "SlabSource",
    "SlidingWindowInferer",
    "SpooledArray",
    "Target",
    "Targets",
    "TensorSource",
    "Tiling",
    "box_on_source",
    "gaussian_weights",
    "measure_receptive_field",
    "prepare_volume",
    "restore_slabs",
    "restoring_bytes",
    "segment_volume",
    "stream_footprint",
    "stream_logits",
    "targets_in_box",
]
