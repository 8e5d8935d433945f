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
from volseg.evaluation.bootstrap import Interval, intervals_of_means
from volseg.evaluation.case import evaluate_case, label_of, values_of
from volseg.evaluation.change import Change, change_over_time
from volseg.evaluation.class_score import ClassScore, Label
from volseg.evaluation.comparison import ComparedMetric, Comparison, compare_evaluations, holm
from volseg.evaluation.describe import how_computed
from volseg.evaluation.empty_rule import EmptyRule
from volseg.evaluation.evaluation import Evaluation, Presence
from volseg.evaluation.files import evaluate_files, evaluate_pairs
from volseg.evaluation.groups import (
    GroupComparison,
    GroupMean,
    compare_groups,
    compare_pairs,
    group_mean,
    patient_means,
)
from volseg.evaluation.label_maps import PairOfMaps, read_pair
from volseg.evaluation.metric import METRICS, Better, Metric
from volseg.evaluation.pairs import (
    CasePair,
    case_name,
    length_unit,
    pair_common_files,
    pair_files,
)
from volseg.evaluation.patients import patients_by_pattern, patients_of_table, require_patients
from volseg.evaluation.probabilities import CasesCalibration, calibrate_files, require_probabilities
from volseg.evaluation.summary import Statistics
from volseg.evaluation.table import read_table
from volseg.evaluation.write import EvaluationPaths, evaluation_paths, write_evaluation

__all__ = [
    "METRICS",
    "Better",
    "CasePair",
    "CasesCalibration",
    "Change",
    "ClassScore",
    "ComparedMetric",
    "Comparison",
    "EmptyRule",
    "Evaluation",
    "EvaluationPaths",
    "GroupComparison",
    "GroupMean",
    "Interval",
    "IntraclassCorrelation",
    "Label",
    "LimitsOfAgreement",
    "MeasurementError",
    "Metric",
    "PairOfMaps",
    "Presence",
    "Statistics",
    "calibrate_files",
    "case_name",
    "change_over_time",
    "compare_evaluations",
    "compare_groups",
    "compare_pairs",
    "evaluate_case",
    "evaluate_files",
    "evaluate_pairs",
    "evaluation_paths",
    "group_mean",
    "holm",
    "how_computed",
    "intervals_of_means",
    "intraclass_correlation",
    "label_of",
    "length_unit",
    "limits_of_agreement",
    "measurement_error",
    "pair_common_files",
    "pair_files",
    "patient_means",
    "patients_by_pattern",
    "patients_of_table",
    "read_pair",
    "read_table",
    "require_patients",
    "require_probabilities",
    "values_of",
    "write_evaluation",
]
