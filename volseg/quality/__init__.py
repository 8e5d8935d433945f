"""Whether a case can be trusted: measured part by part, against what is usual for its bundle."""

from volseg.quality.checks import check_case
from volseg.quality.limits import QUALITY_FILE, Limits, QualityLimits, learn_limits
from volseg.quality.measures import KINDS, Measure, measures
from volseg.quality.measuring import BLOCK_VOXELS, CaseMeasurements, measure_case
from volseg.quality.report import SEVERITIES, Flag, QualityReport

__all__ = [
    "BLOCK_VOXELS",
    "KINDS",
    "QUALITY_FILE",
    "SEVERITIES",
    "CaseMeasurements",
    "Flag",
    "Limits",
    "Measure",
    "QualityLimits",
    "QualityReport",
    "check_case",
    "learn_limits",
    "measure_case",
    "measures",
]
