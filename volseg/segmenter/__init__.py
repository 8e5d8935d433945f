"""Load a bundle once, segment many volumes, in the memory that is allowed."""

from volseg.segmenter.device import choose_device
from volseg.segmenter.dicom_results import require_pictures, write_dicom_picture
from volseg.segmenter.memory_plan import MemoryPlan, bytes_of
from volseg.segmenter.process_memory import peak_bytes
from volseg.segmenter.record import (
    RECORD_SUFFIX,
    CaseRecord,
    UsedBundle,
    are_results_of,
    read_record,
)
from volseg.segmenter.results import (
    RESULT_FORMATS,
    result_files,
    segment_to_files,
    stated_settings,
)
from volseg.segmenter.segmenter import Segmenter
from volseg.segmenter.streamed import Maps

__all__ = [
    "RECORD_SUFFIX",
    "RESULT_FORMATS",
    "CaseRecord",
    "Maps",
    "MemoryPlan",
    "Segmenter",
    "UsedBundle",
    "are_results_of",
    "bytes_of",
    "choose_device",
    "peak_bytes",
    "read_record",
    "require_pictures",
    "result_files",
    "segment_to_files",
    "stated_settings",
    "write_dicom_picture",
]
