"""Training a bundle, measuring it, and choosing how it infers on its held-out cases."""

from volseg.training.averaging import AveragedWeights
from volseg.training.checkpoint import CheckpointEveryEpoch
from volseg.training.cleaning import choose_cleaning, record_cleaning
from volseg.training.clock import TrainingClock
from volseg.training.cross_validation import (
    CrossValidation,
    CrossValidationState,
    cross_validate,
)
from volseg.training.cross_validation_folder import (
    CrossValidationStatus,
    FoldStatus,
    cross_validation_status,
)
from volseg.training.cross_validation_summary import summary_of
from volseg.training.curves import DrawCurves
from volseg.training.damaged import leave_out_damaged
from volseg.training.decisions import (
    TemperatureChoice,
    ThresholdChoice,
    choose_temperature,
    choose_threshold,
    record_decisions,
)
from volseg.training.distributed import (
    TrainTogether,
    join_processes,
    leave_processes,
    share_of_process,
    training_device,
)
from volseg.training.evidence import CaseEvidence, gather_evidence
from volseg.training.history import MetricOfEachClass, TrainingHistory
from volseg.training.measurement import measure_bundle, record_measurement
from volseg.training.network import network_to_train
from volseg.training.optimizers import build_optimizer
from volseg.training.progress import TrainingState
from volseg.training.quality import learn_quality, record_quality, write_quality
from volseg.training.run_record import RecordRun, read_run_record
from volseg.training.run_settings import attached, class_names, run_settings
from volseg.training.runner import train_bundle
from volseg.training.schedules import LearningRate
from volseg.training.seeding import SeedEveryEpoch
from volseg.training.settings import Setting
from volseg.training.step import TrainingStep
from volseg.training.stopping import StopWithoutProgress, ValidateNowAndAtTheEnd
from volseg.training.tuning import record_tuning, tune_bundle
from volseg.training.tuning_table import TuningRow, TuningTable, choose_row

__all__ = [
    "AveragedWeights",
    "CaseEvidence",
    "CheckpointEveryEpoch",
    "CrossValidation",
    "CrossValidationState",
    "CrossValidationStatus",
    "DrawCurves",
    "FoldStatus",
    "LearningRate",
    "MetricOfEachClass",
    "RecordRun",
    "SeedEveryEpoch",
    "Setting",
    "StopWithoutProgress",
    "TemperatureChoice",
    "ThresholdChoice",
    "TrainTogether",
    "TrainingClock",
    "TrainingHistory",
    "TrainingState",
    "TrainingStep",
    "TuningRow",
    "TuningTable",
    "ValidateNowAndAtTheEnd",
    "attached",
    "build_optimizer",
    "choose_cleaning",
    "choose_row",
    "choose_temperature",
    "choose_threshold",
    "class_names",
    "cross_validate",
    "cross_validation_status",
    "gather_evidence",
    "join_processes",
    "learn_quality",
    "leave_out_damaged",
    "leave_processes",
    "measure_bundle",
    "network_to_train",
    "read_run_record",
    "record_cleaning",
    "record_decisions",
    "record_measurement",
    "record_quality",
    "record_tuning",
    "run_settings",
    "share_of_process",
    "summary_of",
    "train_bundle",
    "training_device",
    "tune_bundle",
    "write_quality",
]
