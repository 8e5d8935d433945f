"""Measuring a trained bundle, and choosing how it infers, on its held-out cases."""

from volseg.choosing.cleaning import choose_cleaning, record_cleaning
from volseg.choosing.cross_validation import (
    CrossValidation,
    CrossValidationState,
    cross_validate,
)
from volseg.choosing.cross_validation_folder import (
    CrossValidationStatus,
    FoldStatus,
    cross_validation_status,
)
from volseg.choosing.cross_validation_summary import summary_of
from volseg.choosing.decisions import (
    TemperatureChoice,
    ThresholdChoice,
    choose_temperature,
    choose_threshold,
    record_decisions,
)
from volseg.choosing.evidence import CaseEvidence, gather_evidence
from volseg.choosing.measurement import measure_bundle, record_measurement
from volseg.choosing.quality import learn_quality, record_quality, write_quality
from volseg.choosing.settings import Setting
from volseg.choosing.tuning import record_tuning, tune_bundle
from volseg.choosing.tuning_table import TuningRow, TuningTable, choose_row

__all__ = [
    "CaseEvidence",
    "CrossValidation",
    "CrossValidationState",
    "CrossValidationStatus",
    "FoldStatus",
    "Setting",
    "TemperatureChoice",
    "ThresholdChoice",
    "TuningRow",
    "TuningTable",
    "choose_cleaning",
    "choose_row",
    "choose_temperature",
    "choose_threshold",
    "cross_validate",
    "cross_validation_status",
    "gather_evidence",
    "learn_quality",
    "measure_bundle",
    "record_cleaning",
    "record_decisions",
    "record_measurement",
    "record_quality",
    "record_tuning",
    "summary_of",
    "tune_bundle",
    "write_quality",
]
