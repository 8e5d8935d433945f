"""Load a bundle once, segment many volumes, in the memory that is allowed."""

from volseg.segmenter.memory_plan import MemoryPlan, bytes_of
from volseg.segmenter.results import RESULT_FORMATS, result_files, segment_to_files
from volseg.segmenter.segmenter import Segmenter, choose_device
from volseg.segmenter.streamed import Maps

__all__ = [
    "RESULT_FORMATS",
    "Maps",
    "MemoryPlan",
    "Segmenter",
    "bytes_of",
    "choose_device",
    "result_files",
    "segment_to_files",
]
