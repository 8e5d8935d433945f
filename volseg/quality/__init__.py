"""Whether a case can be trusted: measured part by part, checked, put in sentences."""

from volseg.quality.checks import check_case
from volseg.quality.measuring import BLOCK_VOXELS, measure_volume
from volseg.quality.report import SEVERITIES, Flag, QualityReport

__all__ = ["BLOCK_VOXELS", "SEVERITIES", "Flag", "QualityReport", "check_case", "measure_volume"]
