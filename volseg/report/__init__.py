"""What people look at: previews, tables of statistics, pages of cases and cohorts."""

from __future__ import annotations

from volseg.label_colors import label_color
from volseg.report.case_page import write_case_page
from volseg.report.cohort_page import CohortCase, write_cohort_page
from volseg.report.evaluation_page import Compared, write_evaluation_page
from volseg.report.preview import preview_picture, write_preview
from volseg.report.reporting import Outcome, find_records, read_further_columns, write_report
from volseg.report.statistics_table import statistics_row, write_statistics
from volseg.report.viewer import fetch_viewer, find_viewer

__all__ = [
    "CohortCase",
    "Compared",
    "Outcome",
    "fetch_viewer",
    "find_records",
    "find_viewer",
    "label_color",
    "preview_picture",
    "read_further_columns",
    "statistics_row",
    "write_case_page",
    "write_cohort_page",
    "write_evaluation_page",
    "write_preview",
    "write_report",
    "write_statistics",
]
