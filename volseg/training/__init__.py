"""Training a bundle, measuring it, and choosing how it infers on its held-out cases."""

from volseg.training.averaging import AveragedWeights
from volseg.training.checkpoint import CheckpointEveryEpoch
from volseg.training.cleaning import choose_cleaning, record_cleaning
from volseg.training.measurement import measure_bundle, record_measurement
from volseg.training.quality import learn_quality, record_quality, write_quality
from volseg.training.runner import TrainingState, train_bundle
from volseg.training.settings import Setting
from volseg.training.tuning import record_tuning, tune_bundle
from volseg.training.tuning_table import TuningRow, TuningTable, choose_row

__all__ = [
    "AveragedWeights",
    "CheckpointEveryEpoch",
    "Setting",
    "TrainingState",
    "TuningRow",
    "TuningTable",
    "choose_cleaning",
    "choose_row",
    "learn_quality",
    "measure_bundle",
    "record_cleaning",
    "record_measurement",
    "record_quality",
    "record_tuning",
    "train_bundle",
    "tune_bundle",
    "write_quality",
]
