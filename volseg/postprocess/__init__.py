"""Cleaning label maps in physical units: holes, components, gaps and rough boundaries.

A rule is a value; `apply_rules` applies a list of them to a label map in memory or on disk, slab by
slab, whatever the number of classes. The functions are one rule each; the dictionary forms are
thin. `choose_rules` picks rules, such as those of `propose_rules`, by what they do to held-out
predictions.
"""

from __future__ import annotations

from volseg.postprocess.apply import apply_rules
from volseg.postprocess.choosing import Metric, choose_rules
from volseg.postprocess.closing import CloseGaps, close_gaps
from volseg.postprocess.counting import count_components
from volseg.postprocess.decision_table import (
    Decision,
    DecisionTable,
    Outcome,
    read_decision_table,
)
from volseg.postprocess.dictionary import (
    FillHolesd,
    KeepLargestd,
    PostprocessLabelsd,
    RemoveSmallComponentsd,
)
from volseg.postprocess.holes import FillHoles, fill_holes
from volseg.postprocess.largest_components import KeepLargest, keep_largest
from volseg.postprocess.proposing import propose_rules
from volseg.postprocess.rule import Rule
from volseg.postprocess.rules import RULES, rule_from_json
from volseg.postprocess.small_components import RemoveSmallComponents, remove_small_components
from volseg.postprocess.smoothing import SmoothBoundaries, smooth_boundaries

__all__ = [
    "RULES",
    "CloseGaps",
    "Decision",
    "DecisionTable",
    "FillHoles",
    "FillHolesd",
    "KeepLargest",
    "KeepLargestd",
    "Metric",
    "Outcome",
    "PostprocessLabelsd",
    "RemoveSmallComponents",
    "RemoveSmallComponentsd",
    "Rule",
    "SmoothBoundaries",
    "apply_rules",
    "choose_rules",
    "close_gaps",
    "count_components",
    "fill_holes",
    "keep_largest",
    "propose_rules",
    "read_decision_table",
    "remove_small_components",
    "rule_from_json",
    "smooth_boundaries",
]
