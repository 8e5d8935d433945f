"""Scoring predictions against references: arrays, files or folders, to a table and a summary."""

from __future__ import annotations

from volseg.evaluation.case import METRICS, ClassScore, evaluate_case
from volseg.evaluation.files import Evaluation, evaluate_files, evaluate_pairs
from volseg.evaluation.pairs import CasePair, case_name, pair_files
from volseg.evaluation.summary import Statistics
from volseg.evaluation.write import write_evaluation

__all__ = [
    "METRICS",
    "CasePair",
    "ClassScore",
    "Evaluation",
    "Statistics",
    "case_name",
    "evaluate_case",
    "evaluate_files",
    "evaluate_pairs",
    "pair_files",
    "write_evaluation",
]
