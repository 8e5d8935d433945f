"""What people look at: previews of a segmentation and tables of its statistics."""

from __future__ import annotations

from volseg.label_colors import label_color
from volseg.report.preview import write_preview
from volseg.report.statistics_table import statistics_row, write_statistics

__all__ = [
    "label_color",
    "statistics_row",
    "write_preview",
    "write_statistics",
]
