"""Transforms of images in dictionaries, as MONAI composes them; their numeric work as functions."""

from volseg.transforms.bias_field import CorrectBiasFieldd, bias_field
from volseg.transforms.border_weight import BorderWeightMapd
from volseg.transforms.low_resolution import RandLowResolutiond, lower_resolution
from volseg.transforms.regrid import Regridd, regrid
from volseg.transforms.resample import Volume, resample
from volseg.transforms.rician_noise import RandRicianNoised, add_rician_noise
from volseg.transforms.single_movements import RandElasticd, RandRotated
from volseg.transforms.spatial import RandSpatiald
from volseg.transforms.standardization import (
    Standardization,
    read_standardization,
    standardization,
    standardization_text,
    write_standardization,
)
from volseg.transforms.standardization_fit import FITTED_METHODS, fit_standardization
from volseg.transforms.standardization_methods import (
    METHODS,
    Foreground,
    Nyul,
    Percentile,
    Window,
    ZScore,
)
from volseg.transforms.standardize_intensity import StandardizeIntensityd
from volseg.transforms.structure_masks import StructureMasksd, structure_masks

__all__ = [
    "FITTED_METHODS",
    "METHODS",
    "BorderWeightMapd",
    "CorrectBiasFieldd",
    "Foreground",
    "Nyul",
    "Percentile",
    "RandElasticd",
    "RandLowResolutiond",
    "RandRicianNoised",
    "RandRotated",
    "RandSpatiald",
    "Regridd",
    "Standardization",
    "StandardizeIntensityd",
    "StructureMasksd",
    "Volume",
    "Window",
    "ZScore",
    "add_rician_noise",
    "bias_field",
    "fit_standardization",
    "lower_resolution",
    "read_standardization",
    "regrid",
    "resample",
    "standardization",
    "standardization_text",
    "structure_masks",
    "write_standardization",
]
