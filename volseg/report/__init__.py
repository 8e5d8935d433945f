"""What people look at: previews of a segmentation and tables of its volumes."""

from __future__ import annotations

from volseg.label_colors import label_color
from volseg.report.preview import write_preview
from volseg.report.volumes import LabelStatistics, label_statistics, write_volumes_csv

__all__ = [
    "LabelStatistics",
    "label_color",
    "label_statistics",
    "write_preview",
    "write_volumes_csv",
]
