"""Training: what a bundle's training adds to MONAI's engines, and the run of it."""

from volseg.training.averaging import AveragedWeights
from volseg.training.checkpoint import CheckpointEveryEpoch
from volseg.training.measurement import measure_bundle, record_measurement
from volseg.training.runner import TrainingState, train_bundle

__all__ = [
    "AveragedWeights",
    "CheckpointEveryEpoch",
    "TrainingState",
    "measure_bundle",
    "record_measurement",
    "train_bundle",
]
