"""Scoring predictions against references, agreement of readers, groups and change of patients."""

from __future__ import annotations

from volseg.evaluation.agreement import (
    IntraclassCorrelation,
    LimitsOfAgreement,
    MeasurementError,
    intraclass_correlation,
    limits_of_agreement,
    measurement_error,
)
from volseg.evaluation.case import METRICS, ClassScore, evaluate_case
from volseg.evaluation.change import Change, change_over_time
from volseg.evaluation.files import Evaluation, evaluate_files, evaluate_pairs
from volseg.evaluation.groups import (
    GroupComparison,
    GroupMean,
    Interval,
    compare_groups,
    compare_pairs,
    group_mean,
    patient_means,
)
from volseg.evaluation.pairs import CasePair, case_name, pair_files
from volseg.evaluation.summary import Statistics
from volseg.evaluation.write import write_evaluation

__all__ = [
    "METRICS",
    "CasePair",
    "Change",
    "ClassScore",
    "Evaluation",
    "GroupComparison",
    "GroupMean",
    "Interval",
    "IntraclassCorrelation",
    "LimitsOfAgreement",
    "MeasurementError",
    "Statistics",
    "case_name",
    "change_over_time",
    "compare_groups",
    "compare_pairs",
    "evaluate_case",
    "evaluate_files",
    "evaluate_pairs",
    "group_mean",
    "intraclass_correlation",
    "limits_of_agreement",
    "measurement_error",
    "pair_files",
    "patient_means",
    "write_evaluation",
]
