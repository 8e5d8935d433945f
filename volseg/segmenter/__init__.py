"""Load a bundle once, segment many volumes, in the memory that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.on_use import loaded_on_use

if TYPE_CHECKING:
    from volseg.segmenter.amounts import bytes_of
    from volseg.segmenter.device import choose_device
    from volseg.segmenter.dicom_results import require_pictures, write_dicom_picture
    from volseg.segmenter.memory_plan import MemoryPlan
    from volseg.segmenter.process_memory import peak_bytes
    from volseg.segmenter.record import (
        RECORD_SUFFIX,
        CaseRecord,
        UsedBundle,
        are_results_of,
        is_result,
        read_record,
    )
    from volseg.segmenter.result_formats import RESULT_FORMATS, result_files
    from volseg.segmenter.results import segment_to_files, stated_settings
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
    "is_result",
    "peak_bytes",
    "read_record",
    "require_pictures",
    "result_files",
    "segment_to_files",
    "stated_settings",
    "write_dicom_picture",
]

__getattr__ = loaded_on_use(__name__)
