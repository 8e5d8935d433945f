"""Training a bundle."""

from volseg.training.averaging import AveragedWeights
from volseg.training.checkpoint import CheckpointEveryEpoch
from volseg.training.clock import TrainingClock
from volseg.training.curves import DrawCurves
from volseg.training.damaged import leave_out_damaged
from volseg.training.distributed import (
    TrainTogether,
    join_processes,
    leave_processes,
    share_of_process,
    training_device,
)
from volseg.training.history import MetricOfEachClass, TrainingHistory
from volseg.training.kept_memory import KeepMemory
from volseg.training.network import network_to_train
from volseg.training.optimizers import build_optimizer
from volseg.training.progress import TrainingState
from volseg.training.run_record import RecordRun, read_run_record
from volseg.training.run_settings import attached, class_names, run_settings
from volseg.training.runner import train_bundle
from volseg.training.schedules import LearningRate
from volseg.training.seeding import SeedEveryEpoch
from volseg.training.step import TrainingStep
from volseg.training.stopping import StopWithoutProgress, ValidateNowAndAtTheEnd

__all__ = [
    "AveragedWeights",
    "CheckpointEveryEpoch",
    "DrawCurves",
    "KeepMemory",
    "LearningRate",
    "MetricOfEachClass",
    "RecordRun",
    "SeedEveryEpoch",
    "StopWithoutProgress",
    "TrainTogether",
    "TrainingClock",
    "TrainingHistory",
    "TrainingState",
    "TrainingStep",
    "ValidateNowAndAtTheEnd",
    "attached",
    "build_optimizer",
    "class_names",
    "join_processes",
    "leave_out_damaged",
    "leave_processes",
    "network_to_train",
    "read_run_record",
    "run_settings",
    "share_of_process",
    "train_bundle",
    "training_device",
]
